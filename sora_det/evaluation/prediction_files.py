"""Detections in COCO's JSON formats to columns of numbers, whatever the size of the file.

A file is a list of `{image_id, category_id, bbox, score}`, or an object with `images`, `categories`
and, under `annotations`, that list. It is read entry by entry, so that a file of gigabytes needs
the memory of its numbers alone; what they mean is for `predictions.py` to find out.
"""

from __future__ import annotations

import reprlib
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..untrusted.text import reason, shown
from .ap import Array
from .json_text import JsonText

BATCH = 10_000  # entries checked at a time
SHOWN = 3  # offenders in a message
PARTS = 1000  # of an object; COCO's has five

_KEYS = ("image_id", "category_id", "bbox", "score")
_NUMBERS = {int, float}
_LARGEST = 10**300  # whole numbers beyond it are no floats


@dataclass(frozen=True)
class Listed:
    """An entry of `images`; empty texts where it does not say."""

    id: int | str
    file_name: str
    domain: str


@dataclass(frozen=True, eq=False)
class Entries:
    """The detections of one file, one row each, in its order.

    Attributes:
        file: where they come from.
        ids, categories, domains: the distinct image ids, category ids and domain names.
        image, category: (N,) positions in `ids` and `categories`.
        domain: (N,) positions in `domains`; 0 is "", no domain given.
        score: (N,) any number, NaN too.
        box: (N, 4) x, y, width and height, any numbers.
        listed: the images that the file lists, None without a list.
        names: category id to name, None without a list.
    """

    file: Path
    ids: tuple[int | str, ...]
    categories: tuple[int, ...]
    domains: tuple[str, ...]
    image: Array
    category: Array
    domain: Array
    score: Array
    box: Array
    listed: tuple[Listed, ...] | None
    names: dict[int, str] | None

    def __len__(self) -> int:
        return len(self.image)


def read_entries(file: str | Path) -> Entries:
    """Read a file of detections.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, breaks off, or has another shape; with the number of malformed
            entries and the first of them.
    """
    path = Path(file)
    columns, parts = _Columns(), dict[str, Any]()
    try:
        with path.open(encoding="utf-8-sig") as stream:
            _read(JsonText(stream), columns, parts)
        listed = _listed(parts["images"]) if "images" in parts else None
        names = _names(parts["categories"]) if "categories" in parts else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {reason(error)}") from error
    if columns.malformed:
        first = "; ".join(columns.problems)
        raise ValueError(
            f"{path}: {columns.malformed} of {columns.seen} entries are malformed: {first}"
        )
    return Entries(
        file=path,
        ids=tuple(columns.ids),
        categories=tuple(columns.categories),
        domains=tuple(columns.domains),
        image=_numbers(columns.image),
        category=_numbers(columns.category),
        domain=_numbers(columns.domain),
        score=_numbers(columns.score),
        box=_numbers(columns.box).reshape(-1, 4),
        listed=listed,
        names=names,
    )


# --- the document --------------------------------------------------------------------------------


def _read(text: JsonText, columns: _Columns, parts: dict[str, Any]) -> None:
    """Fill `columns` and, from an object, `parts`."""
    opening = text.symbol()
    if opening == "[":
        columns.fill(text.items())
    elif opening == "{":
        _read_object(text, columns, parts)
    else:
        text.at -= 1
        text.value()  # raises if it is no JSON at all
        raise ValueError("must hold a list of detections or an object with annotations")
    if text.symbol():
        text.at -= 1
        raise text.broken("something follows the document")


def _read_object(text: JsonText, columns: _Columns, parts: dict[str, Any]) -> None:
    seen: set[str] = set()
    while True:
        name = text.value()
        if not isinstance(name, str) or name in seen:
            raise ValueError(f"every part must have a name of its own, got {_show(name)}")
        if len(seen) >= PARTS:
            raise ValueError(f"an object may have {PARTS} parts, got more: {_show(name)}")
        seen.add(name)
        text.expect(":")
        if name == "annotations":
            text.expect("[")
            columns.fill(text.items())
        else:
            value = text.value()
            if name in ("images", "categories"):
                parts[name] = value
        if text.expect(",}") == "}":
            break
    if "annotations" not in seen:
        raise ValueError(f"an object must hold annotations, got only {_show(sorted(seen))}")


# --- entries ------------------------------------------------------------------------------------


@dataclass
class _Columns:
    """Grows by batches of entries; malformed ones are counted and left out."""

    ids: dict[int | str, int] = field(default_factory=dict)
    categories: dict[int, int] = field(default_factory=dict)
    domains: dict[str, int] = field(default_factory=lambda: {"": 0})
    image: array[int] = field(default_factory=lambda: array("i"))
    category: array[int] = field(default_factory=lambda: array("i"))
    domain: array[int] = field(default_factory=lambda: array("i"))
    score: array[float] = field(default_factory=lambda: array("d"))
    box: array[float] = field(default_factory=lambda: array("d"))
    seen: int = 0
    malformed: int = 0
    problems: list[str] = field(default_factory=list)

    def fill(self, entries: Iterator[Any]) -> None:
        batch = []
        for entry in entries:
            batch.append(entry)
            if len(batch) == BATCH:
                self.add(batch)
                batch = []
        self.add(batch)

    def add(self, batch: list[Any]) -> None:
        if not _well_formed(batch):
            batch = self._without_malformed(batch)
        self.seen += len(batch)
        self.image.extend(_positions(self.ids, [entry["image_id"] for entry in batch]))
        self.category.extend(_positions(self.categories, [e["category_id"] for e in batch]))
        self.domain.extend(_positions(self.domains, [entry.get("domain", "") for entry in batch]))
        self.score.extend([entry["score"] for entry in batch])
        self.box.extend(chain.from_iterable([entry["bbox"] for entry in batch]))

    def _without_malformed(self, batch: list[Any]) -> list[Any]:
        good = []
        for place, entry in enumerate(batch, self.seen):
            problem = _problem(entry)
            if not problem:
                good.append(entry)
                continue
            self.malformed += 1
            if len(self.problems) < SHOWN:
                self.problems.append(f"entry {place} {problem}")
        self.seen += len(batch) - len(good)
        return good


def _numbers(column: array[Any]) -> Array:
    """View a column as an array, without a copy."""
    return np.frombuffer(column, dtype=column.typecode) if column else np.array(column)


def _positions(known: dict[Any, int], values: list[Any]) -> list[int]:
    return [known.setdefault(value, len(known)) for value in values]


def _well_formed(batch: list[Any]) -> bool:
    """Whether `_problem` finds none in any entry, many times faster than asking it."""
    try:
        boxes = [entry["bbox"] for entry in batch]
        numbers = [*chain.from_iterable(boxes), *(entry["score"] for entry in batch)]
        np.array(numbers, dtype=np.float64)  # whole numbers may be too large
        return (
            _types(entry["image_id"] for entry in batch) <= {int, str}
            and _types(entry["category_id"] for entry in batch) <= {int}
            and _types(numbers) <= _NUMBERS  # what objects and texts hold are texts
            and set(map(len, boxes)) <= {4}
            and _types(entry.get("domain", "") for entry in batch) <= {str}
        )
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        return False


def _types(values: Any) -> set[type]:
    return set(map(type, values))


def _problem(entry: Any) -> str:
    """Say what is wrong with an entry, "" if nothing is."""
    if not isinstance(entry, dict):
        return f"must be an object, got {_show(entry)}"
    missing = [key for key in _KEYS if key not in entry]
    if missing:
        about = ": are these annotations, not detections?" if missing == ["score"] else ""
        return f"lacks {', '.join(missing)}{about}"
    if type(entry["image_id"]) not in (int, str):
        return f"must have a whole number or a text as image_id, got {_show(entry['image_id'])}"
    if type(entry["category_id"]) is not int:
        return f"must have a whole number as category_id, got {_show(entry['category_id'])}"
    if not _is_number(entry["score"]):
        return f"must have a number as score, got {_show(entry['score'])}"
    box = entry["bbox"]
    if type(box) is not list or len(box) != 4 or not all(map(_is_number, box)):
        return f"must have four numbers [x, y, width, height] as bbox, got {_show(box)}"
    if type(entry.get("domain", "")) is not str:
        return f"must have a text as domain, got {_show(entry['domain'])}"
    return ""


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < _LARGEST)


# --- what an object lists -----------------------------------------------------------------------


def _listed(values: Any) -> tuple[Listed, ...]:
    listed = []
    for value in _objects(values, "images"):
        texts = [value.get(key) or "" for key in ("file_name", "domain")]
        if type(value.get("id")) not in (int, str) or _types(texts) != {str}:
            raise ValueError(
                "images must have an id, a whole number or a text, and file_name and domain, if "
                f"any, as texts, got {_show(value)}"
            )
        listed.append(Listed(value["id"], *texts))
    _check_once([str(image.id) for image in listed], "image ids in images")
    return tuple(listed)


def _names(values: Any) -> dict[int, str]:
    names = {}
    categories = _objects(values, "categories")
    for value in categories:
        number, name = value.get("id"), value.get("name")
        if type(number) is not int or type(name) is not str:
            raise ValueError(
                f"categories must have an id, a whole number, and a name, got {_show(value)}"
            )
        names[number] = name
    _check_once([str(value["id"]) for value in categories], "ids in categories")
    return names


def _objects(values: Any, what: str) -> list[dict[str, Any]]:
    if type(values) is not list or not _types(values) <= {dict}:
        raise ValueError(f"{what} must be a list of objects, got {_show(values)}")
    return values


def _check_once(names: list[str], what: str) -> None:
    """Raise a ValueError if a name comes twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"{what} must differ from each other, but {len(twice)} come more than once: "
            f"{', '.join(shown(name[:80]) for name in twice[:SHOWN])}"
        )


def _show(value: Any) -> str:
    return reprlib.repr(value)
