"""The figures of the analyses, from plain numbers.

Every function returns a matplotlib Figure of its own; pyplot's global state is not used. `save`
writes the same bytes for the same numbers. Colours are those of Okabe and Ito, which people with a
colour vision deficiency tell apart; lines carry their names instead of a legend.
"""

from __future__ import annotations

import math
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BLACK, GREY, PALE = "#000000", "#666666", "#dddddd"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = "sD^vPXo"
ENDS = {"principal": ("strongest", "#d55e00"), "minor": ("weakest", "#0072b2")}
ORDER = ("q", "k", "v", "qkv", "proj", "fc1", "fc2")  # of a block's matrices, as computed
SMALL, NORMAL, LARGE = 8, 9, 11  # font sizes, points
PANEL = (3.4, 2.6)  # width and height, inches
LETTER = 0.09  # width of a letter of a title, inches
DPI = 150

Removed = tuple[str, int]  # which end ("principal" or "minor"), how many components


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
    limits: tuple[float | None, float | None] = (None, None)
    band: tuple[float, float] | None = None  # grey, of values that mean nothing
    band_name: str = ""
    ticks: Sequence[str] = ()  # at 0, 1, ...; without any, whole numbers


def spectra(
    values: Mapping[str, Sequence[float]], *, title: str, minor: int | None = None
) -> Figure:
    """Draw singular values, one panel per kind of layer and one line per block.

    Args:
        values: descending singular values by matrix name, such as "blocks.8.attn.q".
        title: of the figure.
        minor: marks this many of the smallest, those that an adaptation trains.
    """
    kinds = _by_kind(values)
    blocks = sorted({block for lines in kinds.values() for block, _ in lines if block is not None})
    norm = Normalize(min(blocks, default=0), max(blocks, default=1))
    # Without its brightest end, which is hard to see on white.
    colours = ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256)))
    figure, axes = _grid(len(kinds), title, bar=len(blocks) > 1)
    for axis, (kind, lines) in zip(axes, kinds.items(), strict=True):
        for block, name in lines:
            y = [value if value > 0 else math.nan for value in values[name]]
            colour = BLACK if block is None else colours(norm(block))
            axis.plot(range(1, len(y) + 1), y, color=colour, linewidth=1.1)
        axis.set_yscale("log")
        _dress(axis, kind, "singular value")
        axis.set_xlabel("index, from the largest", fontsize=SMALL)
        if minor is not None:
            _mark_end(axis, max(len(values[name]) for _, name in lines), minor)
    if len(blocks) > 1:
        bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes, shrink=0.6, aspect=30)
        bar.set_label("block, from the input to the output", fontsize=SMALL)
        bar.ax.tick_params(labelsize=SMALL)
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def movement(
    quantities: Mapping[str, Mapping[str, float | None]],
    *,
    title: str,
    chance: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Draw quantities of matrices over the blocks, one panel each and one line per kind of layer.

    Args:
        quantities: title of a panel to values by matrix name.
        title: of the figure.
        chance: title of a panel to the range of values that a random change would give there.
    """
    panels = []
    for heading, values in quantities.items():
        curves = []
        for index, (kind, lines) in enumerate(_by_kind(values).items()):
            places = [block for block, _ in lines if block is not None]
            y = [values[name] for block, name in lines if block is not None]
            curves.append(Curve(kind, places, y, _style(index)))
        band = (chance or {}).get(heading)
        panels.append(Panel(heading, curves, limits=(0, None), band=band, band_name="chance"))
    return _lines(panels, title=title, x_label="block", columns=2)


def feature_change(
    changes: Mapping[str, Mapping[Removed, Sequence[float | None]]],
    *,
    title: str,
    first: int | None = None,
) -> Figure:
    """Draw how far features move in every block when components are removed, a panel per domain.

    Args:
        changes: domain to (end, count) to one value per block, from 0.
        title: of the figure.
        first: the first block of which components are removed.
    """
    counts = sorted({count for variants in changes.values() for _, count in variants})
    dashes = ["-", "--", "-.", ":"]
    every = [v for variants in changes.values() for y in variants.values() for v in y if v]
    limits = (0.8 * min(every), 1.25 * max(every)) if every else (None, None)  # to be compared
    panels = []
    for domain, variants in changes.items():
        curves = []
        for (end, count), y in variants.items():
            word, colour = ENDS[end]
            shown = [value or None for value in y]  # 0, before the first block, has no logarithm
            style = Style(colour, dashes=dashes[(len(counts) - 1 - counts.index(count)) % 4])
            curves.append(Curve(f"{count} {word}", range(len(shown)), shown, style))
        panels.append(Panel(domain, curves, "relative change", log=True, limits=limits))
    figure = _lines(panels, title=title, x_label="block", columns=3)
    if first:
        for axis in figure.axes:
            _mark_first(axis, first, "removed")
    return figure


def scores_without(
    scores: Mapping[str, Mapping[Removed, float | None]], *, title: str, source: str = ""
) -> Figure:
    """Draw AP50 over the number of components removed, from either end, a line per domain.

    Args:
        scores: domain to (end, count) to AP50 in percent; count 0 is the whole model.
        title: of the figure.
        source: the domain that was trained on.
    """
    counts = sorted({count for variants in scores.values() for _, count in variants})
    best = max((v for variants in scores.values() for v in variants.values() if v), default=1.0)
    limits = (0, 1.05 * best)  # of both panels, to be compared
    panels = []
    for end, (word, _) in ENDS.items():
        curves = []
        for domain, style in _domains(scores, source).items():
            y = [scores[domain].get((end, count)) for count in counts]
            curves.append(Curve(domain, range(len(counts)), y, style))
        ticks = [str(count) for count in counts]
        panels.append(Panel(f"{word} removed", curves, "AP50 (%)", limits=limits, ticks=ticks))
    return _lines(panels, title=title, x_label="components removed of every matrix", columns=2)


def similarity(
    values: Mapping[str, Mapping[str, Sequence[float | None]]],
    *,
    title: str,
    source: str = "",
    first: int | None = None,
) -> Figure:
    """Draw similarities of two networks' features over the blocks, a panel each, a line per domain.

    Args:
        values: heading of a panel to domain to one value per block, 0 to 1.
        title: of the figure.
        source: the domain that was trained on.
        first: the first adapted block.
    """
    panels = []
    for heading, domains in values.items():
        curves = [
            Curve(domain, range(len(domains[domain])), domains[domain], style)
            for domain, style in _domains(domains, source).items()
        ]
        panels.append(Panel(heading, curves, "linear CKA (1: nothing forgotten)", limits=(0, 1)))
    figure = _lines(panels, title=title, x_label="block", columns=2, scale=1.3)
    if first:
        for axis in figure.axes:
            _mark_first(axis, first, "adapted")
    return figure


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


# --- panels -----------------------------------------------------------------------------------


def _grid(
    count: int, title: str, *, columns: int = 3, scale: float = 1.0, bar: bool = False
) -> tuple[Figure, list[Axes]]:
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


def _lines(
    panels: Sequence[Panel], *, title: str, x_label: str, columns: int, scale: float = 1.0
) -> Figure:
    """Draw panels over a common kind of x, with the name of every line at its end."""
    figure, axes = _grid(len(panels), title, columns=columns, scale=scale)
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
        _dress(axis, panel.title, panel.y_label)
        axis.set_xlabel(x_label, fontsize=SMALL)
        if panel.ticks:
            axis.set_xticks(range(len(panel.ticks)), panel.ticks)
    figure.draw_without_rendering()  # only then is it known how high the axes are
    for axis, panel in zip(axes, panels, strict=True):
        _name_lines(axis, panel)
    return figure


def _dress(axis: Axes, title: str, y_label: str) -> None:
    axis.set_title(title, fontsize=NORMAL, loc="left", fontweight="bold")
    axis.set_ylabel(y_label, fontsize=SMALL)
    axis.tick_params(labelsize=SMALL, color=GREY)
    axis.grid(True, color=PALE, linewidth=0.5)
    axis.set_axisbelow(True)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
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
            xy=(float(to_axes.transform((x, 0.0 if not panel.log else 1.0))[0]), place),
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


def _mark_end(axis: Axes, total: int, minor: int) -> None:
    axis.axvspan(total - minor + 0.5, total + 0.5, color="#cc79a7", alpha=0.25, linewidth=0)
    axis.annotate(
        f"weakest {minor}",
        xy=(total - minor, 0.97),
        xycoords=("data", "axes fraction"),
        fontsize=SMALL,
        color="#8f3f6d",
        ha="right",
        va="top",
    )


def _mark_first(axis: Axes, first: int, word: str) -> None:
    axis.axvline(first - 0.5, color=GREY, linewidth=0.8, linestyle=":")
    axis.annotate(
        f"{word} from {first}",
        xy=(first - 0.5, 0.02),
        xytext=(3, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        fontsize=SMALL,
        color=GREY,
    )


# --- names ------------------------------------------------------------------------------------


def _by_kind(names: Mapping[str, object]) -> dict[str, list[tuple[int | None, str]]]:
    """Sort matrix names by what stands behind the block's number: pairs of number and name."""
    kinds: dict[str, list[tuple[int | None, str]]] = {}
    for name in names:
        number = re.search(r"(?:^|(?<=\.))blocks\.(\d+)\.", name)
        if number:
            kind, block = name[: number.start()] + name[number.end() :], int(number[1])
            kinds.setdefault(kind, []).append((block, name))
        else:
            kinds.setdefault(name.rpartition(".")[2], []).append((None, name))
    last = len(ORDER)
    rank = {kind: place for place, kind in enumerate(ORDER)}
    return dict(sorted(kinds.items(), key=lambda k: rank.get(k[0].rpartition(".")[2], last)))


def _domains(names: Mapping[str, object], source: str) -> dict[str, Style]:
    """Give every domain colour and marker, the source black."""
    targets = [name for name in names if name != source]
    own = {source: Style(BLACK, "o")} if source in names else {}
    return own | {name: _style(index) for index, name in enumerate(targets)}


def _style(index: int) -> Style:
    return Style(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)])
