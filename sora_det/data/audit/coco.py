"""The images of a split in COCO's format, whatever state they are in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..benchmark import check_below, check_shown
from ..checks import Places, check_pixels
from .entries import Entry, Split
from .examine import Thing

_MALFORMED = (ValueError, TypeError, OverflowError)
_PARTS = ("images", "annotations", "categories")

Id = int | str


def coco_split(split: Split, file: Path, images: Path, root: Path) -> None:
    """Enter what an annotation file names.

    Args:
        split: is filled.
        file: the annotation file.
        images: folder that its `file_name`s start from.
        root: of the benchmark; links may lead into it.
    """
    if not file.is_file():
        split.note("missing-split", "", f"no file {file}")
        return
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        split.note("unreadable-split", "", f"{file}: {error}")
        return
    if not isinstance(content, dict) or not all(isinstance(content.get(p), list) for p in _PARTS):
        split.note("unreadable-split", "", f"{file}: must hold the lists {', '.join(_PARTS)}")
        return
    listed = _images(split, content["images"], images, Places(root, images))
    labels = _labels(split, content["categories"])
    _annotations(split, content["annotations"], labels, listed)
    if not content["images"]:
        split.note("empty-split", "", f"{file} names no image")


def _images(
    split: Split, rows: Iterable[Any], folder: Path, places: Places
) -> dict[Id, Entry | None]:
    """Enter images; return them by id, None for one that is left out."""
    listed: dict[Id, Entry | None] = {}
    for row in rows:
        number, name = _id(row, "id"), _get(row, "file_name")
        if number is None or not isinstance(name, str):
            split.note("unreadable-annotation", "", f"no image with id and file_name: {row!r:.80}")
            continue
        own, file = str(number)[:80], folder / name
        if number in listed:
            split.note("duplicate-id", own, f"an image again: {name[:80]}")
            continue
        listed[number] = None
        checks = (
            partial(check_below, name, "images"),
            partial(check_shown, str(number), "an id"),
            partial(places.check, file),
        )
        if all(split.passes(check, own) for check in checks):
            entry = Entry(own, file, size=_size(split, own, row))
            listed[number] = entry
            split.entries.append(entry)
    return listed


def _size(split: Split, own: str, row: Mapping[str, Any]) -> tuple[int, int] | None:
    try:
        width, height = int(row.get("width") or 0), int(row.get("height") or 0)
        check_pixels((width, height), "a size")
    except _MALFORMED as error:
        split.note("unreadable-annotation", own, f"width and height: {error}")
        return None
    return (width, height) if width > 0 and height > 0 else None


def _labels(split: Split, rows: Iterable[Any]) -> dict[Id, str]:
    labels: dict[Id, str] = {}
    for row in rows:
        number, name = _id(row, "id"), _get(row, "name")
        if number is None or name is None:
            split.note("unreadable-annotation", "", f"no category with id and name: {row!r:.80}")
        elif number in labels:
            split.note("duplicate-id", "", f"a category again: {number!r}, {name!r:.80}")
        else:
            labels[number] = str(name)
    return labels


def _annotations(
    split: Split,
    rows: Iterable[Any],
    labels: Mapping[Id, str],
    listed: Mapping[Id, Entry | None],
) -> None:
    seen: set[Id] = set()
    for position, row in enumerate(rows):
        number, image, label = _id(row, "id"), _id(row, "image_id"), _id(row, "category_id")
        if image is None or image not in listed or label is None or label not in labels:
            what = "category" if image in listed else "image"
            value = _get(row, f"{what}_id")
            detail = f"annotation {position} is of {what} {value!r:.80}, which is not listed"
            split.note("unreadable-annotation", "", detail)
            continue
        if number in seen:
            split.note("duplicate-id", str(image)[:80], f"an annotation again: {number!r:.80}")
        elif number is not None:
            seen.add(number)
        entry = listed[image]
        if entry is not None:
            entry.things.append(_thing(labels[label], _get(row, "bbox"), position))


def _thing(label: str, bbox: Any, position: int) -> Thing:
    try:
        x, y, width, height = map(float, bbox)
        check_pixels((x, y, width, height), "a bbox")
    except _MALFORMED as error:
        return Thing(label, None, f"annotation {position}, bbox: {error}")
    return Thing(label, (x, y, x + width, y + height))


def _get(row: Any, key: str) -> Any:
    return row.get(key) if isinstance(row, dict) else None


def _id(row: Any, key: str) -> Id | None:
    value = _get(row, key)
    return value if type(value) in (int, str) else None
