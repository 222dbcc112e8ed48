"""Panels of matplotlib figures: axes side by side, lines that carry their names, files.

pyplot's global state is not used. Colours are those of Okabe and Ito, which people with a colour
vision deficiency tell apart.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BLACK, GREY, PALE = "#000000", "#666666", "#dddddd"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = "sD^vPXo"
SMALL, NORMAL, LARGE = 8, 9, 11  # font sizes, points
PANEL = (3.4, 2.6)  # width and height, inches
LETTER = 0.09  # width of a letter of a title, inches
DPI = 150


class Style(NamedTuple):
    """How a line looks, in matplotlib's words."""

    colour: str
    marker: str = ""
    dashes: str = "-"


@dataclass(frozen=True)
class Curve:
    """One named line of a panel; None is a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    style: Style


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    curves: Sequence[Curve]
    y_label: str = ""
    log: bool = False
    log_x: bool = False
    limits: tuple[float | None, float | None] = (None, None)
    band: tuple[float, float] | None = None  # grey, of values that mean nothing
    band_name: str = ""
    ticks: Sequence[str] = ()  # at 0, 1, ...; without any, whole numbers


def numbered_style(index: int) -> Style:
    """Return one of the styles that tell lines apart by colour and marker."""
    return Style(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)])


def save(figure: Figure, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Write `<name>.svg` and `<name>.png` into `folder`, which is made if need be.

    The same figure gives the same bytes: no date, no random identifiers. Text in the SVG stays
    text. Older files are replaced, each whole or not at all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}.svg", folder / f"{name}.png"
    with matplotlib.rc_context({"svg.hashsalt": "sora_det", "svg.fonttype": "none"}):
        for path, extra in zip(paths, ({"Date": None}, {"Software": None}), strict=True):
            draft = path.with_name(f".{path.name}.part")
            kind = path.suffix[1:]
            figure.savefig(draft, format=kind, dpi=DPI, facecolor="white", metadata=extra)
            os.replace(draft, path)
    return paths


def grid(
    count: int, title: str, *, columns: int = 3, scale: float = 1.0, bar: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a title and `count` axes, row by row; `bar` leaves room for one."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    width, height = PANEL[0] * scale, PANEL[1] * scale
    total = width * columns + (0.9 if bar else 0.4)
    letters = int(total / LETTER)
    lines = [line for part in title.splitlines() for line in textwrap.wrap(part, letters)]
    figure = Figure(figsize=(total, height * rows + 0.25 * len(lines)), layout="constrained")
    figure.suptitle("\n".join(lines), fontsize=LARGE, x=0.01, ha="left")
    cells = figure.subplots(rows, columns, squeeze=False)
    flat = [axis for row in cells for axis in row]
    for axis in flat[count:]:
        axis.remove()
    return figure, flat[:count]


def line_panels(
    panels: Sequence[Panel], *, title: str, x_label: str, columns: int, scale: float = 1.0
) -> Figure:
    """Draw panels over a common kind of x, with the name of every line at its end."""
    figure, axes = grid(len(panels), title, columns=columns, scale=scale)
    for axis, panel in zip(axes, panels, strict=True):
        for curve in panel.curves:
            y = [math.nan if value is None else value for value in curve.y]
            axis.plot(
                list(curve.x),
                y,
                linestyle=curve.style.dashes,
                color=curve.style.colour,
                marker=curve.style.marker,
                markersize=3.5,
                linewidth=1.5,
                clip_on=False,
            )
        if panel.band is not None:  # before the limits, which are to hold it
            axis.axhspan(*panel.band, color=PALE, linewidth=1)
        if panel.log:
            axis.set_yscale("log")
        axis.set_ylim(*panel.limits)
        dress(axis, panel.title, panel.y_label)
        axis.set_xlabel(x_label, fontsize=SMALL)
        if panel.log_x:
            axis.set_xscale("log")
        if panel.ticks:
            axis.set_xticks(range(len(panel.ticks)), panel.ticks)
    figure.draw_without_rendering()  # only then is it known how high the axes are
    for axis, panel in zip(axes, panels, strict=True):
        _name_lines(axis, panel)
    return figure


def dress(axis: Axes, title: str, y_label: str, *, whole: bool = True) -> None:
    """Give axes their title, label, grid and quiet spines; `whole` numbers alone along x."""
    axis.set_title(title, fontsize=NORMAL, loc="left", fontweight="bold")
    axis.set_ylabel(y_label, fontsize=SMALL)
    axis.tick_params(labelsize=SMALL, color=GREY)
    axis.grid(True, color=PALE, linewidth=0.5)
    axis.set_axisbelow(True)
    axis.xaxis.set_major_locator(MaxNLocator(integer=whole, nbins=7))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(GREY)


def _name_lines(axis: Axes, panel: Panel) -> None:
    """Write the names right of the axes, moved apart where lines end close to each other."""
    ends: list[tuple[float, float, Curve]] = []  # place in the axes, value, line
    to_axes = axis.transData + axis.transAxes.inverted()
    curves = list(panel.curves)
    if panel.band is not None:
        middle, right = sum(panel.band) / 2, axis.get_xlim()[1]
        curves.append(Curve(panel.band_name, [right], [middle], Style(GREY)))
    for curve in curves:
        known = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if y is not None]
        if known:
            x, y = known[-1]
            ends.append((float(to_axes.transform((x, y))[1]), x, curve))
    ends.sort(key=lambda end: end[0])
    inches = axis.get_window_extent().height / axis.figure.dpi
    step = 1.3 * SMALL / 72 / inches
    places = _apart([place for place, _, _ in ends], step)
    for (place, x, curve), moved in zip(ends, places, strict=True):
        axis.annotate(
            curve.name,
            xy=(float(to_axes.transform((x, 1.0 if panel.log else 0.0))[0]), place),
            xytext=(1.05, moved),
            xycoords="axes fraction",
            textcoords="axes fraction",
            fontsize=SMALL,
            color=curve.style.colour,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": curve.style.colour,
                "linewidth": 0.5,
                "relpos": (0, 0.5),  # the middle of the name would be behind its neighbours
                "shrinkB": 2,
            },
        )


def _apart(places: Sequence[float], step: float) -> list[float]:
    """Move ascending places at least `step` apart, as little as that takes within 0..1."""
    # Neighbours that collide become a group about their mean; groups may collide again.
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while len(groups) > 1 and _bounds(groups[-2], step)[1] > _bounds(groups[-1], step)[0]:
            last = groups.pop()
            groups[-1] += last
    found = []
    for group in groups:
        low = _bounds(group, step)[0] + step / 2
        found += [low + step * index for index in range(len(group))]
    return found


def _bounds(group: Sequence[float], step: float) -> tuple[float, float]:
    middle, half = sum(group) / len(group), step * len(group) / 2
    end = half - step / 2  # from the middle of the group to that of its last name
    middle = min(max(middle, end), 1 - end)  # what leaves the axes, if any, does so below
    return middle - half, middle + half
