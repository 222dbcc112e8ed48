"""What is wrong with one image and its annotation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from ..images import Size
from .entries import Entry, Split
from .examine import Picture, Sheet, Thing

SLACK = 1.0  # pixels that a box may reach out of its image: some files count from 0, some from 1


def judge(
    split: Split,
    entry: Entry,
    picture: Picture | None,
    sheet: Sheet | None,
    classes: Collection[str],
) -> int:
    """Note every problem of an image.

    Args:
        split: takes the problems.
        entry: what the split says of the image.
        picture: the image's file, None if it is missing.
        sheet: its annotation file, None if it is missing or there is none in this format.
        classes: all names that the benchmark knows.

    Returns:
        Number of objects of these classes.
    """
    if picture is None:
        split.note("missing-image", entry.name, f"no file {entry.image}")
    elif picture.problem:
        split.note("unreadable-image", entry.name, f"{entry.image}: {picture.problem}")
    size, things, thinnest = entry.size, entry.things, 0.0
    if entry.sheet is not None:
        if sheet is None or sheet.problem:
            kind = "missing" if sheet is None else "unreadable"
            what = f"no file {entry.sheet}" if sheet is None else f"{entry.sheet}: {sheet.problem}"
            split.note(f"{kind}-annotation", entry.name, what)
            return 0
        size, things = sheet.size, list(sheet.things)
        thinnest = 1.0  # VOC's corners lie in the box: where they are the same it is a pixel wide
    if picture is not None and not picture.problem:
        _judge_size(split, entry, picture, size)
        size = size or picture.layout.shown
    for thing in (thing for thing in things if thing.label in classes or not thing.label):
        _judge_thing(split, entry, thing, size, thinnest)
    labels = Counter(thing.label for thing in things if thing.label)
    for label, count in labels.items():
        if label not in classes:
            split.note("unknown-class", entry.name, f"{label[:80]!r}, objects: {count}")
    return sum(count for label, count in labels.items() if label in classes)


def _judge_size(split: Split, entry: Entry, picture: Picture, size: Size | None) -> None:
    found = picture.layout
    if size not in (None, found.stored, found.shown):
        stored, stated = ("x".join(map(str, one)) for one in (found.stored, size or ()))
        split.note("size-differs", entry.name, f"{stored} pixels, annotated as {stated}")
    elif found.orientation > 1 and (size is None or found.stored == found.shown):
        split.note("uncertain-orientation", entry.name, f"EXIF orientation {found.orientation}")


def _judge_thing(
    split: Split, entry: Entry, thing: Thing, size: Size | None, thinnest: float
) -> None:
    if thing.box is None:
        split.note("unreadable-annotation", entry.name, f"{thing.label[:80]!r}: {thing.problem}")
        return
    x0, y0, x1, y1 = thing.box
    wide, high = x1 - x0, y1 - y0
    text = f"{thing.label!r} [{x0:g}, {y0:g}, {x1:g}, {y1:g}]"
    if wide < thinnest or high < thinnest:
        split.note("inverted-box", entry.name, text)
    elif wide <= thinnest or high <= thinnest:
        split.note("empty-box", entry.name, text)
    elif size is not None:
        out = max(-x0, -y0, x1 - size[0], y1 - size[1])
        if out > SLACK:
            where = f"{text} in {size[0]}x{size[1]} pixels"
            split.note("box-outside", entry.name, where)
