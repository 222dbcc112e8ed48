"""The images of a split in VOC's layout, whatever state they are in."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ..benchmark import check_below
from ..checks import Places
from ..voc_xml import find_image, image_name, without_flag
from .entries import Entry, Split


def voc_split(split: Split, folder: Path, name: str, root: Path) -> None:
    """Enter what a split file names.

    Args:
        split: is filled.
        folder: holds JPEGImages, Annotations and ImageSets.
        name: of a file in ImageSets/Main, without .txt.
        root: of the benchmark; links may lead into it.
    """
    file = folder / "ImageSets" / "Main" / f"{name}.txt"
    if not file.is_file():
        split.note("missing-split", "", f"no file {file}")
        return
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        split.note("unreadable-split", "", f"{file}: {error}")
        return
    images, annotations = folder / "JPEGImages", folder / "Annotations"
    places = Places(root, images, annotations)
    seen: set[str] = set()
    named = [without_flag(line.strip()) for line in lines if line.strip()]
    for line in named:
        own = image_name(line)
        if not split.passes(partial(check_below, line, str(file)), line[:80]):
            continue
        if own in seen:
            split.note("duplicate-id", own, f"again in {file}")
            continue
        seen.add(own)
        image = find_image(images, line)
        sheet = annotations / f"{own}.xml"
        for path in (image, sheet):
            if path is not None and not split.passes(partial(places.check, path), own):
                break
        else:
            split.entries.append(Entry(own, image or images / f"{own}.jpg", sheet))
    if not named:
        split.note("empty-split", "", f"{file} names no image")
