"""Where the images and annotations of a VOC split lie, and what tells that they have changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .checks import Places, Tally
from .voc_xml import IMAGE_SUFFIXES, find_image, split_name

Entry = os.DirEntry[str] | Path  # either can be opened, and knows `stat`


@dataclass
class Files:
    """The files of a split, in its order; lists of one length.

    Attributes:
        names: of the images, without ending.
        endings: of their files, as places in IMAGE_SUFFIXES.
        images: these files.
        sheets: the annotation files.
    """

    names: list[str] = field(default_factory=list)
    endings: list[int] = field(default_factory=list)
    images: list[Entry] = field(default_factory=list)
    sheets: list[Entry] = field(default_factory=list)

    def add(self, name: str, ending: str, image: Entry, sheet: Entry) -> None:
        self.names.append(name)
        self.endings.append(IMAGE_SUFFIXES.index(ending))
        self.images.append(image)
        self.sheets.append(sheet)


def find_files(names: Sequence[str], folder: Path, root: Path, tally: Tally) -> Files:
    """Find what a split names; what is missing goes to `tally`.

    Raises:
        ValueError: a link leads out of `root` and the two folders, unless `tally` is lenient.
    """
    images, annotations = folder / "JPEGImages", folder / "Annotations"
    places = Places(root, images, annotations)
    pictures, sheets = _listed(images, places), _listed(annotations, places)
    first = IMAGE_SUFFIXES[0]
    if not any(name.endswith(IMAGE_SUFFIXES) for name in names):  # mostly all are alike
        found: list[Entry] = [one for name in names if (one := pictures.get(name + first))]
        noted: list[Entry] = [one for name in names if (one := sheets.get(name + ".xml"))]
        if len(found) == len(noted) == len(names):
            return Files([*names], [0] * len(names), found, noted)
    files = Files()
    for name in names:
        own, endings = split_name(name)
        for ending in endings:
            if own + ending in pictures:
                break
        image, sheet = pictures.get(own + ending), sheets.get(own + ".xml")
        if image is not None and sheet is not None:
            files.add(own, ending, image, sheet)
            continue
        # Missing, or a link, or in a folder below, or known to the system by other letters.
        picture, note = find_image(images, name), annotations / f"{own}.xml"
        if picture is None or not note.is_file():
            tally.missing.append(name)
            continue
        try:
            places.check(picture)
            places.check(note)
        except ValueError as error:
            tally.leave_out(error)
            continue
        files.add(own, next(one for one in endings if picture.name.endswith(one)), picture, note)
    return files


def _listed(folder: Path, places: Places) -> dict[str, os.DirEntry[str] | None]:
    """List a folder: its files, and None for whatever else has a name there."""
    with suppress(OSError), os.scandir(folder) as entries:
        if places.holds(folder):
            return {
                one.name: one if one.is_file(follow_symlinks=False) else None for one in entries
            }
    return {}


def stamps(entries: Sequence[Entry]) -> np.ndarray:
    """Return what changes with each file, int64 (n, 3).

    That is the time of its last change in ns, its size in bytes, and the time at which anything
    about it changed, which tells of a file that another one of the same time and size replaced.
    """
    rows: list[int] = []
    for entry in entries:
        seen = entry.stat()
        rows += (seen.st_mtime_ns, seen.st_size, seen.st_ctime_ns)
    return np.array(rows, dtype=np.int64).reshape(-1, 3)
