"""Small charts as inline SVG, drawn for a column of a phone's width.

Written by hand rather than by matplotlib: lines take their colours from the page's style sheet, so
that one drawing serves light, dark and print, text stays text, and a panel weighs a few kilobytes,
of which a page may hold dozens. No dates and no random identifiers: the same numbers give the same
bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .axes import Axis
from .html import Markup, join, tag
from .words import number, percent

STYLES = 8  # colours and dashes in the style sheet, s0 to s7; "ink" is the text's own colour
WIDTH, HEIGHT = 320.0, 215.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 10.0, 8.0, 38.0
LETTERS = 15  # that fit beside a bar
NAMES, VALUES = 118.0, 36.0  # width beside bars, for names and for numbers


@dataclass(frozen=True)
class Line:
    """One line; NaN is a gap.

    Attributes:
        name: what it is.
        x, y: of equal lengths.
        style: class of the style sheet, of `style`.
        marks: points to stand out, x, y and what they are.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str
    marks: Sequence[tuple[float, float, str]] = ()


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        value: None draws a note in place of a bar.
        style: class of the style sheet.
        words: what it is, shown under the pointer.
        low, high: ends of the whisker, None without one.
        dots: single values to show on it.
    """

    value: float | None
    style: str
    words: str
    low: float | None = None
    high: float | None = None
    dots: Sequence[float] = ()


@dataclass(frozen=True)
class Row:
    """Bars that share a name; `note` stands beside it in grey."""

    name: str
    note: str
    bars: Sequence[Bar]


def style(index: int) -> str:
    """Return the class of the style sheet for the line or bar of this number."""
    return f"s{index % STYLES}"


def legend(entries: Sequence[tuple[str, str]], *, lines: bool = True) -> Markup:
    """Return a list of names with their looks, from pairs of name and style."""
    if lines:
        sample = [
            (name, tag("line", x1=1, x2=27, y1=6, y2=6, class_="line")) for name, _ in entries
        ]
    else:
        sample = [
            (name, tag("rect", x=4, y=1, width=20, height=10, class_="bar")) for name, _ in entries
        ]
    items = [
        tag(
            "li",
            tag("svg", mark, viewBox="0 0 28 12", class_=f"key {look}", aria_hidden="true"),
            name,
        )
        for (name, mark), (_, look) in zip(sample, entries, strict=True)
    ]
    return tag("ul", items, class_="legend")


def line_chart(lines: Sequence[Line], x: Axis, y: Axis, *, words: str) -> Markup:
    """Draw lines over common axes; `words` say what is seen to those who do not see it."""
    drawn = [_grid(x, y)]
    for line in lines:
        points = [_point(a, b, x, y) for a, b in zip(line.x, line.y, strict=True)]
        drawn.append(
            tag(
                "g",
                tag("title", line.name),
                [_stroke(run) for run in _runs(points)],
                [_mark(_point(a, b, x, y), text) for a, b, text in line.marks],
                class_=line.style,
            )
        )
    size = f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
    return tag("svg", drawn, viewBox=size, class_="chart", role="img", aria_label=words)


def bar_chart(rows: Sequence[Row], axis: Axis, *, words: str) -> Markup:
    """Draw groups of bars from left to right, one below the other."""
    most = max((len(row.bars) for row in rows), default=1)
    thick = 14.0 if most == 1 else 11.0
    step = most * (thick + 1.0) + 9.0
    height = step * len(rows) + 20.0
    span = WIDTH - NAMES - VALUES
    drawn = []
    for tick in axis.ticks:
        at = NAMES + span * axis.place(tick)
        drawn.append(tag("line", x1=at, x2=at, y1=0, y2=height - 18, class_="grid"))
        drawn.append(
            tag("text", number(tick), x=at, y=height - 5, class_="tick", text_anchor="middle")
        )
    for index, row in enumerate(rows):
        top = index * step + 4.0
        middle = top + (step - 9.0) / 2 + 4.0
        drawn.append(_name(row, middle))
        for place, bar in enumerate(row.bars):
            drawn.append(_bar(bar, axis, span, top + place * (thick + 1.0), thick))
    size = f"0 0 {WIDTH:.0f} {height:.0f}"
    return tag("svg", drawn, viewBox=size, class_="chart", role="img", aria_label=words)


def _name(row: Row, y: float) -> Markup:
    short = row.name if len(row.name) <= LETTERS else row.name[: LETTERS - 1].rstrip() + "…"
    return join(
        tag("text", tag("title", row.name), short, x=0, y=y, class_="name"),
        tag("text", row.note, x=NAMES - 6, y=y, class_="tick", text_anchor="end"),
    )


def _bar(bar: Bar, axis: Axis, span: float, top: float, thick: float) -> Markup:
    middle = top + thick / 2
    if bar.value is None:
        words = tag("text", "none", x=NAMES + 4, y=middle + 3.5, class_="tick")
        return tag("g", tag("title", bar.words), words)
    end = NAMES + span * axis.place(bar.value)
    parts = [tag("title", bar.words)]
    parts.append(
        tag("rect", x=NAMES, y=top, width=max(end - NAMES, 0.5), height=thick, class_="bar")
    )
    reach = end
    if bar.low is not None and bar.high is not None:
        low, high = (NAMES + span * axis.place(v) for v in (bar.low, bar.high))
        cap = min(thick / 2 - 1, 3.5)
        path = f"M{low:.1f} {middle:.1f}H{high:.1f}"
        path += "".join(f"M{v:.1f} {middle - cap:.1f}v{2 * cap:.1f}" for v in (low, high))
        parts.append(tag("path", d=path, class_="whisker"))
        reach = max(reach, high)
    for dot in bar.dots:
        at = NAMES + span * axis.place(dot)
        parts.append(tag("circle", cx=at, cy=middle, r=2.2, class_="dot"))
        reach = max(reach, at + 2)
    parts.append(tag("text", percent(bar.value), x=reach + 4, y=middle + 3.8, class_="value"))
    return tag("g", parts, class_=bar.style)


def _grid(x: Axis, y: Axis) -> Markup:
    """Draw the lines behind a chart, numbers and labels."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick in y.ticks:
        _, at = _point(x.low, tick, x, y)
        parts.append(tag("line", x1=LEFT, x2=right, y1=at, y2=at, class_="grid"))
        parts.append(
            tag("text", number(tick), x=LEFT - 5, y=at + 3.5, class_="tick", text_anchor="end")
        )
    for tick in x.ticks:
        at, _ = _point(tick, y.low, x, y)
        parts.append(tag("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(
            tag("text", number(tick), x=at, y=bottom + 15, class_="tick", text_anchor="middle")
        )
    parts.append(tag("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
    middle = (LEFT + right) / 2
    parts.append(tag("text", x.label, x=middle, y=HEIGHT - 5, class_="tick", text_anchor="middle"))
    turned = f"translate(10 {(TOP + bottom) / 2:.0f}) rotate(-90)"
    parts.append(tag("text", y.label, transform=turned, class_="tick", text_anchor="middle"))
    return join(parts)


def _point(a: float, b: float, x: Axis, y: Axis) -> tuple[float, float]:
    if not (math.isfinite(a) and math.isfinite(b)) or (y.log and b <= 0):
        return math.nan, math.nan
    across = LEFT + (WIDTH - LEFT - RIGHT) * x.place(a)
    return across, TOP + (HEIGHT - TOP - BOTTOM) * (1 - y.place(b))


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Cut a line at its gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isnan(point[0]):
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _stroke(run: Sequence[tuple[float, float]]) -> Markup:
    if len(run) == 1:
        return tag("circle", cx=run[0][0], cy=run[0][1], r=2.0, class_="dot")
    return tag("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in run), class_="line")


def _mark(point: tuple[float, float], words: str) -> Markup:
    return tag("circle", tag("title", words), cx=point[0], cy=point[1], r=4.0, class_="mark")
