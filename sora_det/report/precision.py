"""The section of precision-recall curves and operating points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..evaluation.ap import Array
from .axes import Axis
from .charts import Line, legend, line_chart
from .headline import domain_styles
from .html import Markup, join, tag
from .judged import ClassCurve, Judged
from .looks import Look
from .runs import Run
from .tables import Cell, Column, table
from .words import fraction

STEPS = 270  # about one a pixel
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
RECALL, PRECISION = Axis("recall", 0, 1, TICKS), Axis("precision", 0, 1, TICKS)


def precision_section(runs: Sequence[Run], looks: Mapping[str, Look]) -> Markup:
    """Return the curves of every class and domain, and the table of operating points."""
    known = [run for run in runs if run.judged]
    absent = [tag("p", _named(r, r.absent, runs), class_="absent") for r in runs if r.absent]
    if not known:
        return join(absent)
    body = _by_class(known[0]) if len(runs) == 1 else _by_class_and_domain(known, looks)
    return join(absent, _intro(known[0]), body, _points(known, looks if len(runs) > 1 else None))


def _intro(run: Run) -> Markup:
    source = next(iter(run.judged))
    return join(
        tag(
            "p",
            "Precision is the share of predictions that are right, recall the share of boxes that "
            "are found. Going down in score, a detector moves from left to right; AP50 is read off "
            "these curves, at every recall the best precision from there on.",
        ),
        tag(
            "p",
            tag("b", "The dot is the operating point"),
            f": the score threshold that gives the class its best F1 on {source} (F1 is the "
            "harmonic mean of precision and recall). The same threshold is used in every domain, "
            "since a detector in use has no labels to choose another by. A dot may lie below its "
            "curve, which shows the best precision from that recall on; a dot in the corner means "
            "that nothing above the threshold is right.",
        ),
    )


def _by_class(run: Run) -> Markup:
    """Draw a panel per class, a line per domain."""
    looks = domain_styles(run.table.scores)
    panels = []
    for place, name in enumerate(run.table.protocol.classes):
        lines = [
            _line(domain, judged.curves[place], looks[domain])
            for domain, judged in run.judged.items()
        ]
        panels.append(_panel(name, lines, f"Precision over recall of {name}"))
    shown = legend([(domain, looks[domain]) for domain in run.judged])
    return join(shown, tag("div", panels, class_="panels"))


def _by_class_and_domain(known: Sequence[Run], looks: Mapping[str, Look]) -> Markup:
    """Draw a panel per class and domain, a line per run; two menus choose among them."""
    domains = list(dict.fromkeys(domain for run in known for domain in run.judged))
    classes = known[0].table.protocol.classes
    panels = []
    for place, name in enumerate(classes):
        for where, domain in enumerate(domains):
            lines = [
                _line(
                    looks[run.name].title, run.judged[domain].curves[place], looks[run.name].style
                )
                for run in known
                if domain in run.judged and place < len(run.judged[domain].curves)
            ]
            words = f"Precision over recall of {name} in {domain}"
            panels.append(_panel(f"{name}, {domain}", lines, words, place, where))
    menus = tag(
        "p",
        _menu("class", classes, chosen=_most_boxes(known[0])),
        _menu("domain", domains, chosen=-1),
        class_="filters screen",
    )
    shown = legend([(looks[run.name].title, looks[run.name].style) for run in known])
    return tag("div", menus, shown, tag("div", panels, class_="panels"), class_="filtered")


def _most_boxes(run: Run) -> int:
    scores = run.table.scores[0].classes
    return max(range(len(scores)), key=lambda place: scores[place].boxes)


def _menu(what: str, names: Sequence[str], *, chosen: int) -> Markup:
    entries = [(-1, f"every {what}"), *enumerate(names)]
    options = [tag("option", name, value=i, selected=i == chosen) for i, name in entries]
    return tag("label", f"{what} ", tag("select", options, data_filter=what, autocomplete="off"))


def _panel(
    title: str,
    lines: Sequence[Line],
    words: str,
    place: int | None = None,
    where: int | None = None,
) -> Markup:
    said = "; ".join(
        f"{line.name}: " + (line.marks[0][2] if line.marks else "no operating point")
        for line in lines
    )
    chart = line_chart(lines, RECALL, PRECISION, words=f"{words}. {said}")
    return tag(
        "figure", tag("h3", title), chart, class_="panel", data_class=place, data_domain=where
    )


def _line(name: str, curve: ClassCurve, look: str) -> Line:
    at = curve.operating
    marks = []
    if at is not None:
        words = (
            f"{name}: threshold {fraction(at.threshold)}, precision {fraction(at.precision)}, "
            f"recall {fraction(at.recall)}"
        )
        marks.append((at.recall, at.precision, words))
    recall, precision = thinned(curve.recall, curve.precision)
    return Line(name, recall.tolist(), precision.tolist(), look, marks)


def thinned(recall: Array, precision: Array) -> tuple[Array, Array]:
    """Keep the first and the last point of every `1 / STEPS` of recall; more cannot be seen."""
    step = np.floor(recall * STEPS)
    moves = step[1:] != step[:-1]
    keep = np.append(True, moves) | np.append(moves, True)
    return recall[keep[: len(recall)]], precision[keep[: len(recall)]]


def _points(known: Sequence[Run], looks: Mapping[str, Look] | None) -> Markup:
    """Return the table of operating points; `looks` of several runs."""
    columns = [
        Column("class", number=False),
        Column("domain", number=False),
        *([Column("run", number=False)] if looks else []),
        Column("threshold", "predictions with at least this score count"),
        Column("precision"),
        Column("recall"),
        Column("F1"),
        Column("best F1", "with a threshold of the domain's own"),
        Column("its threshold", "the one that gives the best F1"),
    ]
    domains = list(dict.fromkeys(domain for run in known for domain in run.judged))
    rows = []
    for place, name in enumerate(known[0].table.protocol.classes):
        for domain in domains:
            for run in known:
                who = [Cell(run.name, run.name, looks[run.name].method)] if looks else []
                judged = run.judged.get(domain)
                if judged is not None and place < len(judged.curves):
                    first = [Cell(name, name), Cell(domain, domain), *who]
                    rows.append([*first, *_values(judged, place)])
    caption = (
        "Operating points, as fractions from 0 to 1; best F1 is what a threshold of the domain's "
        "own would give"
    )
    return table(caption, columns, rows, tall=True)


def _values(judged: Judged, place: int) -> list[Cell]:
    curve, threshold = judged.curves[place], judged.thresholds[place]
    at, best = curve.operating, curve.best
    found = [threshold, *((at.precision, at.recall, at.f1) if at else (None, None, None))]
    found += (best.f1, best.threshold) if best else (None, None)
    return [Cell(fraction(value), value) for value in found]


def _named(run: Run, text: str, runs: Sequence[Run]) -> str:
    return text if len(runs) == 1 else f"{run.name}: {text}"
