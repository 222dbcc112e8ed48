"""Where the names of boxes are written on a picture, so that they can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LETTER, LINE = 0.6, 1.05  # width of a letter and height of a line, of the font's size


@dataclass(frozen=True)
class Label:
    """What to write at a box (x1, y1, x2, y2), with a class of the style sheet."""

    text: str
    box: tuple[float, float, float, float]
    look: str


@dataclass(frozen=True)
class Placed:
    """A label and where its text begins: left end of its base line."""

    label: Label
    x: float
    y: float


def place(labels: Sequence[Label], width: float, height: float, size: float) -> list[Placed]:
    """Write labels above, below or in their boxes, inside the image and not on one another.

    Args:
        labels: the most important first; one for which no place is free is left out.
        width, height: of the image, in its pixels.
        size: of the font, in the same.
    """
    taken: list[tuple[float, float, float, float]] = []
    placed = []
    for label in labels:
        long, high = LETTER * size * len(label.text), LINE * size
        x1, y1, _, y2 = label.box
        x = max(min(x1, width - long), 0.0)
        for top in (y1 - high, y2, y1):
            area = (x, top, x + long, top + high)
            inside = top >= 0 and area[3] <= height
            if inside and not any(_meet(area, other) for other in taken):
                taken.append(area)
                placed.append(Placed(label, x, top + 0.8 * size))
                break
    return placed


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
