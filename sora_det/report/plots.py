"""The figures of the analyses, from plain numbers.

Every function returns a matplotlib Figure of its own; lines carry their names instead of a legend.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .panels import (
    BLACK,
    GREY,
    SMALL,
    Curve,
    Panel,
    Style,
    dress,
    grid,
    line_panels,
    numbered_style,
)

ENDS = {"principal": ("strongest", "#d55e00"), "minor": ("weakest", "#0072b2")}
ORDER = ("q", "k", "v", "qkv", "proj", "fc1", "fc2")  # of a block's matrices, as computed

Removed = tuple[str, int]  # which end ("principal" or "minor"), how many components


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
    figure, axes = grid(len(kinds), title, bar=len(blocks) > 1)
    for axis, (kind, lines) in zip(axes, kinds.items(), strict=True):
        for block, name in lines:
            y = [value if value > 0 else math.nan for value in values[name]]
            colour = BLACK if block is None else colours(norm(block))
            axis.plot(range(1, len(y) + 1), y, color=colour, linewidth=1.1)
        axis.set_yscale("log")
        dress(axis, kind, "singular value")
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
            curves.append(Curve(kind, places, y, numbered_style(index)))
        band = (chance or {}).get(heading)
        panels.append(Panel(heading, curves, limits=(0, None), band=band, band_name="chance"))
    return line_panels(panels, title=title, x_label="block", columns=2)


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
    figure = line_panels(panels, title=title, x_label="block", columns=3)
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
    return line_panels(panels, title=title, x_label="components removed of every matrix", columns=2)


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
    figure = line_panels(panels, title=title, x_label="block", columns=2, scale=1.3)
    if first:
        for axis in figure.axes:
            _mark_first(axis, first, "adapted")
    return figure


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
    return own | {name: numbered_style(index) for index, name in enumerate(targets)}
