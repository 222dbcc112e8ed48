"""Figures of a study: differences, learning rates, and how far its backbones have moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from matplotlib.figure import Figure

from ..evaluation.explained import BlockMovement, Explained, mean
from ..evaluation.study import NUMBERS, Difference, Summary
from .panels import (
    BLACK,
    COLOURS,
    GREY,
    MARKERS,
    NORMAL,
    SMALL,
    Curve,
    Panel,
    Style,
    dress,
    grid,
    line_panels,
)

BELOW, ABOVE = COLOURS[1], COLOURS[0]


def study_figures(summary: Summary, explained: Sequence[Explained]) -> dict[str, Figure]:
    """Return the figures that there are numbers for, by name."""
    figures = {}
    if summary.differences:
        figures["differences"] = differences(summary)
    if summary.searches:
        figures["rates"] = rates(summary)
    if explained:
        figures["drift"] = drift(summary.name, explained)
        figures["movement"] = movement(summary.name, explained)
        figures["drift_and_score"] = drift_and_score(summary, explained)
    return figures


def differences(summary: Summary) -> Figure:
    """Draw the paired differences to the reference with their intervals, a panel per number."""
    found = {(one.method, one.number): one for one in summary.differences}
    methods = list(dict.fromkeys(one.method for one in summary.differences))
    seeds = max(one.seeds for one in summary.differences)
    title = (
        f"{summary.name}: AP50 minus that of {summary.reference}, points\n"
        f"mean over {seeds} seeds, 95% interval over seeds and test images"
    )
    figure, axes = grid(len(NUMBERS), title, scale=max(1.0, len(methods) / 9))
    for axis, number in zip(axes, NUMBERS, strict=True):
        dress(axis, number, "", whole=False)
        axis.axvline(0, color=BLACK, linewidth=0.8)
        for row, method in enumerate(methods):
            one = found.get((method, number))
            if one is None:
                continue
            colour = _colour(one)
            axis.plot([one.mean], [row], "o", color=colour, markersize=4)
            if one.interval is not None:
                ends = [one.interval.low, one.interval.high]
                axis.plot(ends, [row, row], color=colour, linewidth=1.5)
        axis.set_yticks(range(len(methods)), methods if axis is axes[0] else [""] * len(methods))
        axis.set_ylim(len(methods) - 0.5, -0.5)
        axis.set_xlabel("points of AP50", fontsize=SMALL)
    return figure


def rates(summary: Summary) -> Figure:
    """Draw what every learning rate has scored on the held-out images of the source."""
    curves = []
    for index, one in enumerate(summary.searches):
        x, y = zip(*one.rates, strict=True)
        curves.append(Curve(one.method, x, y, method_style(index)))
    panel = Panel("held-out images of the source", curves, "AP50 (%)", log_x=True, limits=(0, None))
    title = f"{summary.name}: the search of the learning rate"
    return line_panels([panel], title=title, x_label="learning rate", columns=1, scale=1.6)


def drift(name: str, explained: Sequence[Explained]) -> Figure:
    """Draw the similarity to the pretrained features over the blocks, a line per method."""
    panels = []
    for which in ("source", "targets"):
        curves = []
        for method, runs, style in _methods(explained):
            lines = [run.similarity(targets=which == "targets") for run in runs]
            curves.append(Curve(method, *_line(lines), style))
        panels.append(Panel(f"images of the {which}", curves, "linear CKA (1: nothing forgotten)"))
    values = [y for panel in panels for curve in panel.curves for y in curve.y if y is not None]
    lowest = min([*values, 0.99])  # where nothing has drifted, too, axes need a height
    limits = (lowest - 0.05 * (1 - lowest), 1.0)  # of both panels, to be compared
    return line_panels(
        [replace(panel, limits=limits) for panel in panels],
        title=f"{name}: similarity to the pretrained features, mean over seeds",
        x_label="block",
        columns=2,
        scale=1.3,
    )


def movement(name: str, explained: Sequence[Explained]) -> Figure:
    """Draw how far the weights of every block have moved and in which directions."""
    what: dict[str, Callable[[BlockMovement], float | None]] = {
        "distance moved, as a share of the weight": lambda block: block.relative,
        "share of change in the weakest directions": lambda block: block.minor,
        "share of change in the strongest directions": lambda block: block.principal,
    }
    panels = []
    for heading, of in what.items():
        curves = []
        for method, runs, style in _methods(explained):
            lines = [[of(block) for block in run.moved] for run in runs]
            if any(value for line in lines for value in line):
                curves.append(Curve(method, *_line(lines), style))
        panels.append(Panel(heading, curves, limits=(0, None)))
    title = f"{name}: how far training has moved the weights, mean over seeds"
    return line_panels(panels, title=title, x_label="block", columns=3, scale=1.2)


def drift_and_score(summary: Summary, explained: Sequence[Explained]) -> Figure:
    """Draw every run: features kept on target images, weights moved, against the target mean."""
    scores = summary.target_means()
    figure, axes = grid(2, f"{summary.name}: a mark per run", columns=2, scale=1.3, bar=True)
    labels = ("linear CKA to the pretrained features, targets, last block", "weights moved, share")
    marks = []
    for axis, label in zip(axes, labels, strict=True):
        dress(axis, "", "target mean AP50 (%)", whole=False)
        axis.set_xlabel(label, fontsize=SMALL)
        for method, runs, style in _methods(explained):
            x = [
                run.similarity(targets=True)[-1] if axis is axes[0] else run.relative
                for run in runs
            ]
            y = [scores.get((run.method, run.seed)) for run in runs]
            known = [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None]
            (mark,) = axis.plot(
                [a for a, _ in known],
                [b for _, b in known],
                linestyle="",
                marker=style.marker,
                color=style.colour,
                markersize=5,
                label=method,
            )
            marks.append(mark)
    figure.legend(
        handles=marks[: len(marks) // 2],
        loc="outside right center",
        fontsize=NORMAL,
        frameon=False,
    )
    return figure


def method_style(index: int) -> Style:
    """Return one of eight colours, as many as studies usually have methods, with a marker."""
    colours = (*COLOURS, BLACK, GREY)
    return Style(colours[index % len(colours)], MARKERS[index % len(MARKERS)])


def _methods(explained: Sequence[Explained]) -> list[tuple[str, list[Explained], Style]]:
    """Return the methods with their runs and how they are drawn."""
    found: dict[str, list[Explained]] = {}
    for one in explained:
        found.setdefault(one.method, []).append(one)
    return [(name, runs, method_style(i)) for i, (name, runs) in enumerate(found.items())]


def _line(
    lines: Sequence[Sequence[float | None]],
) -> tuple[Sequence[float], Sequence[float | None]]:
    """Return the blocks' numbers and the means of several lines over them."""
    means = [mean(values) for values in zip(*lines, strict=True)]
    return range(len(means)), means


def _colour(one: Difference) -> str:
    """Return grey for a difference whose interval holds 0."""
    if one.interval is None or one.interval.low <= 0 <= one.interval.high:
        return GREY
    return ABOVE if one.mean > 0 else BELOW
