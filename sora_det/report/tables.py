"""Tables that a click or a key sorts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .html import Child, Markup, tag


@dataclass(frozen=True)
class Column:
    """One column; `words` say more about the heading, `number` sorts by value."""

    name: str
    words: str = ""
    number: bool = True


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        shown: what is read.
        value: what it sorts by; None, for a number that does not exist, comes last.
        small: a second, smaller line.
        heat: 0..1 colours the cell.
    """

    shown: Child
    value: str | float | None = None
    small: str = ""
    heat: float | None = None


def table(
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    below: Sequence[Sequence[Cell]] = (),
    *,
    sortable: bool = True,
    tall: bool = False,
) -> Markup:
    """Return a table whose first column names the rows; rows `below` a line stay where they are.

    It scrolls in a box of its own where it is too wide, and a `tall` one where it is long.
    """
    heads = [_head(column, sortable) for column in columns]
    body = [_row(row, columns) for row in rows]
    foot = tag("tfoot", [_row(row, columns) for row in below]) if below else None
    whole = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", heads)),
        tag("tbody", body),
        foot,
        class_="sortable" if sortable else None,
    )
    return tag(
        "div",
        whole,
        class_="wide tall" if tall else "wide",
        role="region",
        aria_label=caption,
        tabindex=0,
    )


def _head(column: Column, sortable: bool) -> Markup:
    inner: Child = column.name
    if sortable:
        inner = tag("button", column.name, type="button")
    return tag(
        "th",
        inner,
        scope="col",
        title=column.words or None,
        class_="n" if column.number else None,
    )


def _row(cells: Sequence[Cell], columns: Sequence[Column]) -> Markup:
    drawn = []
    for place, (cell, column) in enumerate(zip(cells, columns, strict=True)):
        value = cell.value
        if isinstance(value, float):
            value = f"{value:.6g}"
        drawn.append(
            tag(
                "td" if place else "th",
                cell.shown,
                tag("small", cell.small) if cell.small else None,
                scope=None if place else "row",
                class_="n" if column.number else None,
                data_value=value,
                style=None if cell.heat is None else f"--heat:{100 * cell.heat:.0f}%",
            )
        )
    return tag("tr", drawn)
