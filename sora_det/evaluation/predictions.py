"""Detections of any program, in COCO's formats, as those of a benchmark's images and classes.

Whatever cannot be matched or makes no sense is an error, or it is counted in the remarks that go
with the scores: no detection disappears or changes unseen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..untrusted.text import reason
from .ap import Array, Detections
from .prediction_files import SHOWN, Entries, read_entries
from .prediction_images import Finder, Images, Place, Places
from .scores import Remark

COCO_LIMIT = 100  # detections per image and class that COCO's AP looks at
ROUNDING = 0.1  # pixels by which a rounded box may reach beyond its image without a remark
CORNERS = 0.2  # share of boxes beyond their image from which on they may be something else


@dataclass(frozen=True)
class Classes:
    """What the classes of a benchmark are called.

    Attributes:
        classes: in the order of labels.
        aliases: every name that a file may use, the classes' own included, to its label.
        numbers: gives the category ids of a domain's annotation file, with their names; none for a
            benchmark whose annotations have no ids.
        first: category id of the first class in a file that does not name its categories, the
            others following in the benchmark's order; None if it has not been said.
    """

    classes: tuple[str, ...]
    aliases: Mapping[str, int]
    numbers: Callable[[str], Mapping[int, str]] = lambda domain: {}
    first: int | None = None


@dataclass(frozen=True, eq=False)
class Predicted:
    """The detections of a domain, cut off at the borders of its images, and what was odd."""

    detections: Detections
    remarks: tuple[Remark, ...]


class Source(NamedTuple):
    """A file, and the one domain that it is about, "" for any."""

    file: Path
    domain: str = ""


class _Part(NamedTuple):
    """What one file says of one domain; rows of unknown classes are left out."""

    name: str
    detections: Detections
    others: Counter[str]
    listed: frozenset[Place] | None


def parse_sources(arguments: Iterable[str], domains: Sequence[str]) -> list[Source]:
    """Read FILE and DOMAIN=FILE arguments.

    Raises:
        ValueError: none, an unknown domain, or files for all domains beside files for one.
    """
    sources = []
    for argument in arguments:
        name, equals, file = argument.partition("=")
        if equals and name in domains:
            sources.append(Source(Path(file), name))
        elif equals and not Path(argument).exists():
            raise ValueError(f"the domains are {', '.join(domains)}, got {name!r} in {argument!r}")
        else:
            sources.append(Source(Path(argument)))
    if not sources:
        raise ValueError("give at least one file of detections")
    if len({bool(source.domain) for source in sources}) > 1:
        raise ValueError("give either files for all domains or DOMAIN=FILE for each, not both")
    return sources


def read_predictions(
    sources: Sequence[Source],
    known: Mapping[str, Images],
    classes: Classes,
    *,
    ignore_unknown_images: bool = False,
) -> dict[str, Predicted]:
    """Read the detections of the domains in `known`; each must have a file.

    An image that its file lists with a `file_name` is found by that, else by its id; a category by
    its name where the file has names, else by its number. Remarks that concern no single domain go
    to the first one.

    Raises:
        OSError: a file cannot be read.
        ValueError: a malformed file, scores outside 0..1, boxes that are none, images or
            categories that cannot be found or could be several, or images in several files.
    """
    parts: dict[str, list[_Part]] = {domain: [] for domain in known}
    named = {source.domain for source in sources}
    if not sources or ("" not in named and named != set(known)):
        raise ValueError(f"the domains {', '.join(known)} need a file each, got {len(sources)}")
    general: list[Remark] = []
    for source in sources:
        entries = read_entries(source.file)
        _check_values(entries)
        places = Finder(known, source.domain).places(entries)
        remarks = _unknown(entries, places, known, source.domain, ignore_unknown_images)
        general += [*remarks, *_missing_classes(entries, classes)]
        if not len(entries):
            general.append(Remark(f"file holds no detection: {source.file.name}", 1))
        for number, domain in enumerate(known):
            if source.domain in ("", domain):
                rows = np.flatnonzero(places.domain == number)
                parts[domain].append(_part(entries, places, rows, domain, classes))
    found = {
        domain: _join(number, domain, images, parts[domain])
        for number, (domain, images) in enumerate(known.items())
    }
    first = next(iter(found))
    found[first] = Predicted(found[first].detections, (*general, *found[first].remarks))
    return found


# --- one file -----------------------------------------------------------------------------------


def _check_values(entries: Entries) -> None:
    score, box = entries.score, entries.box

    def show_score(row: int) -> str:
        return f"{score[row]:g}"

    def show_box(row: int) -> str:
        return str(box[row].tolist())

    wrong = ~((score >= 0) & (score <= 1))  # NaN too
    _refuse(entries, wrong, "have a score that is not between 0 and 1", show_score)
    infinite = ~np.isfinite(box).all(axis=1)
    _refuse(entries, infinite, "have a bbox that is not finite", show_box)
    negative = (box[:, 2:] < 0).any(axis=1)
    _refuse(entries, negative, "have a bbox [x, y, width, height] of negative size", show_box)
    if len(entries) and 0 < box.max() <= 1:
        raise ValueError(
            f"{entries.file}: no number of any bbox is above 1, so that they look like fractions "
            "of the image: multiply them by its width and height"
        )


def _refuse(entries: Entries, bad: Any, what: str, show: Callable[[int], str]) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        first = ", ".join(f"entry {row} has {show(row)}" for row in rows[:SHOWN].tolist())
        raise ValueError(f"{entries.file}: {len(rows)} of {len(entries)} entries {what}: {first}")


def _unknown(
    entries: Entries, places: Places, known: Mapping[str, Images], only: str, ignore: bool
) -> list[Remark]:
    """Count entries of unknown images, which are refused unless `ignore` is set."""
    rows = np.flatnonzero(places.domain < 0)
    if not len(rows):
        return []
    if ignore and len(rows) < len(entries):
        return [
            Remark(f"detections in {entries.file.name} are of unknown images: left out", len(rows))
        ]
    names = {image.id: image.file_name for image in entries.listed or ()}
    images = [entries.ids[i] for i in np.unique(entries.image[rows]).tolist()]
    shown = _some(repr(names.get(image) or image) for image in images)
    own = known[only or next(iter(known))]
    example = own.files[0] if names.get(images[0]) else own.ids[0]
    raise ValueError(
        f"{entries.file}: {len(rows)} of {len(entries)} entries are of {len(images)} images that "
        f"{only or 'the domains ' + ', '.join(known)} do not have: {shown}. Known ones are called "
        f"as {example!r} is; --ignore-unknown-images leaves them out, unless they are all"
    )


def _missing_classes(entries: Entries, classes: Classes) -> list[Remark]:
    """Check the names of a file's categories; count the classes that it cannot tell of."""
    if entries.names is None:
        return []
    if classes.first is not None:
        raise ValueError(
            f"{entries.file}: the file names its categories, which decides: leave the number of "
            "the first one out"
        )
    found = {classes.aliases[name] for name in entries.names.values() if name in classes.aliases}
    if not found:
        raise ValueError(
            f"{entries.file}: none of its categories ({_some(entries.names.values())}) is a class "
            f"of the benchmark ({', '.join(classes.classes)}): rename them, or give the benchmark "
            "a class_map"
        )
    missing = [name for label, name in enumerate(classes.classes) if label not in found]
    what = f"classes are not among the categories of {entries.file.name}: {', '.join(missing)}"
    return [Remark(what, len(missing))] if missing else []


def _part(entries: Entries, places: Places, rows: Array, domain: str, classes: Classes) -> _Part:
    used = np.unique(entries.category[rows]).tolist()
    names = {i: entries.categories[i] for i in used}
    label_of = np.full(len(entries.categories) + 1, -1, dtype=np.int64)
    others: Counter[str] = Counter()
    for position, (label, name) in _labels(entries, names, domain, classes).items():
        label_of[position] = label
        if label < 0:
            others[name] += int((entries.category[rows] == position).sum())
    labels = label_of[entries.category[rows]]
    rows, labels = rows[labels >= 0], labels[labels >= 0]
    detections = Detections(places.index[rows], labels, entries.score[rows], entries.box[rows])
    return _Part(entries.file.name, detections, others, places.listed)


def _labels(
    entries: Entries, used: Mapping[int, int], domain: str, classes: Classes
) -> dict[int, tuple[int, str]]:
    """Label (-1 for a class that the benchmark lacks) and name of the categories `used`."""
    names: Mapping[int, str] = {}
    if entries.names is None and classes.first is not None:
        names = dict(enumerate(classes.classes, classes.first))
    elif entries.names is not None:
        names = entries.names
    elif used and not (names := classes.numbers(domain)):
        raise ValueError(
            f"{entries.file}: the file does not name its categories, and their ids mean nothing in "
            f"this benchmark: say which id its first class, {classes.classes[0]}, has with "
            "--first-category-id 0 or 1, or write an object with a list of categories"
        )
    strange = sorted(number for number in used.values() if number not in names)
    if strange:
        raise ValueError(
            f"{entries.file}: category ids must be among {_some(sorted(names), 12)}, got "
            f"{_some(strange)}"
        )
    return {
        position: (classes.aliases.get(names[number], -1), names[number])
        for position, number in used.items()
    }


# --- one domain ---------------------------------------------------------------------------------


def _join(number: int, domain: str, images: Images, parts: Sequence[_Part]) -> Predicted:
    """Join what the files say of one domain, cut boxes off and count what is odd."""
    _check_apart(domain, images, parts)
    columns = [[getattr(part.detections, k) for part in parts] for k in Detections.__annotations__]
    found = Detections(*(np.concatenate(c) if len(c) > 1 else c[0] for c in columns))
    remarks = [_other_classes(sum((part.others for part in parts), Counter()))]
    found, odd = _cut_off(found, images.size)
    remarks += odd
    remarks += [
        Remark("detections repeat another one exactly", repeated(found)),
        Remark(
            f"times, an image has more than {COCO_LIMIT} detections of a class, of which COCO AP "
            f"looks at the best {COCO_LIMIT}",
            _crowded(found),
        ),
    ]
    if all(part.listed is not None for part in parts):
        listed = {place for part in parts for place in part.listed or () if place[0] == number}
        unlisted = len(images.ids) - len(listed)
        remarks.append(Remark("images are not in the files' lists of images", unlisted))
    without = len(images.ids) - len(np.unique(found.image))
    remarks.append(Remark("images have no detection", without))
    return Predicted(found, tuple(remark for remark in remarks if remark.count))


def _cut_off(found: Detections, size: Array) -> tuple[Detections, list[Remark]]:
    """Turn [x, y, width, height] into corners within the images, and count where that mattered."""
    limit = np.tile(size[found.image], 2)  # (N, 4)
    corners = found.box.copy()
    corners[:, 2:] += corners[:, :2]
    box = np.clip(corners, 0.0, limit)
    beyond = np.abs(corners - box).max(axis=1, initial=0.0) > ROUNDING
    empty = (box[:, 2:] <= box[:, :2]).any(axis=1)
    outside = beyond & empty & (found.box[:, 2:] > 0).all(axis=1)
    hint = ""
    as_corners = (found.box[:, 2:] > found.box[:, :2]).all() and (found.box <= limit).all()
    if as_corners and beyond.sum() > CORNERS * len(found):
        hint = " (are they corners? A bbox is [x, y, width, height])"
    remarks = [
        Remark(f"boxes reached beyond their image and were cut off{hint}", _sum(beyond & ~outside)),
        Remark("boxes lay outside their image and count as wrong", _sum(outside)),
        Remark("boxes have no area and count as wrong", _sum(empty & ~outside)),
    ]
    return Detections(found.image, found.label, found.score, box), remarks


def _check_apart(domain: str, images: Images, parts: Sequence[_Part]) -> None:
    seen = np.zeros(len(images.ids), dtype=np.int64)
    for part in parts:
        seen[np.unique(part.detections.image)] += 1
    both = np.flatnonzero(seen > 1)
    if len(both):
        raise ValueError(
            f"{', '.join(part.name for part in parts)}: {len(both)} images of {domain} have "
            f"detections in several of these files: {_some([images.ids[i] for i in both[:9]])}"
        )


def repeated(detections: Detections) -> int:
    """Count the detections that equal an earlier one in image, class, score and box."""
    if not len(detections):
        return 0
    columns = [detections.image, detections.label, detections.score, *detections.box.T]
    mixed = np.zeros(len(detections), dtype=np.uint64)
    for column in columns:  # equal rows have equal hashes; few others do
        mixed = (mixed ^ column.astype(np.float64).view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    _, first, count = np.unique(mixed, return_index=True, return_counts=True)
    if len(first) == len(mixed):
        return 0
    alike = np.isin(mixed, mixed[first[count > 1]])
    rows = np.stack([column[alike].astype(np.float64) for column in columns], axis=1)
    return len(rows) - len(np.unique(rows, axis=0))


def _crowded(detections: Detections) -> int:
    key = detections.image * (int(detections.label.max(initial=0)) + 1) + detections.label
    return int((np.unique(key, return_counts=True)[1] > COCO_LIMIT).sum())


def _other_classes(others: Counter[str]) -> Remark:
    shown = _some([f"{name} {count}" for name, count in others.most_common(10)], 9)
    what = f"detections are of classes that the benchmark lacks and are left out: {shown}"
    return Remark(what, others.total())


def _sum(flags: Array) -> int:
    return int(flags.sum())


def _some(names: Iterable[object], most: int = SHOWN) -> str:
    names = list(names)
    return ", ".join(reason(name, 80) for name in names[:most]) + (
        ", …" if len(names) > most else ""
    )
