"""The page of a study: methods side by side, paired differences, and how rates were found."""

from __future__ import annotations

import os
from pathlib import Path

from ..evaluation.study import NUMBERS, Difference, Summary
from .axes import linear, logarithmic
from .charts import Line, legend, line_chart, style
from .headline import grouped_bars, methods_table
from .html import Markup, join, tag
from .page import document
from .tables import Cell, Column, table
from .words import percent


def write_study_page(summary: Summary, output: str | Path) -> Path:
    """Write the page of a study, whole or not at all, and return its path."""
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(study_page(summary), encoding="utf-8", newline="\n")
    os.replace(draft, path)
    return path


def study_page(summary: Summary) -> str:
    """Return the page as HTML; the same summary gives the same bytes."""
    sections = (
        ("methods", "Methods", _methods(summary)),
        ("differences", "Paired differences", _differences(summary)),
        ("rates", "Learning rates", _rates(summary)),
        ("made", "How it was made", tag("ul", [tag("li", fact) for fact in summary.facts])),
    )
    links = [tag("li", tag("a", name, href=f"#{key}")) for key, name, _ in sections]
    first = summary.comparison.methods[0].tables[0]
    body = join(
        tag(
            "header",
            tag("p", f"Study on {first.benchmark}", class_="over"),
            tag("h1", summary.name),
        ),
        tag("nav", tag("ul", links), aria_label="sections"),
        tag(
            "main",
            tag("p", summary.question, class_="lead") if summary.question else None,
            [tag("section", tag("h2", name), part, id=key) for key, name, part in sections],
        ),
        tag("footer", tag("p", "Made by scripts/compare.py of sora_det from the study's results.")),
    )
    return document(summary.name, body)


def _methods(summary: Summary) -> Markup:
    notes = tag("ul", [tag("li", note) for note in summary.comparison.notes()])
    return join(methods_table(summary.comparison), grouped_bars(summary.comparison), notes)


def _differences(summary: Summary) -> Markup:
    if not summary.differences:
        return tag("p", f"There is nothing to compare with {summary.reference} yet.")
    columns = [Column("method", number=False)]
    columns += [Column(name, f"minus that of {summary.reference}, points") for name in NUMBERS]
    methods = dict.fromkeys(one.method for one in summary.differences)
    cells = {(one.method, one.number): _cell(one) for one in summary.differences}
    rows = [[Cell(m, m), *(cells.get((m, n), Cell("")) for n in NUMBERS)] for m in methods]
    caption = (
        f"Difference to {summary.reference} in points of AP50, its 95% interval, and the seeds at "
        "which the method is above it"
    )
    return table(caption, columns, rows)


def _cell(one: Difference) -> Cell:
    return Cell(str(one), one.mean, f"{one.better} of {one.seeds} seeds")


def _rates(summary: Summary) -> Markup:
    if not summary.searches:
        return tag("p", "No search has ended yet.")
    lines, rows = [], []
    for place, one in enumerate(summary.searches):
        x, y = [rate for rate, _ in one.rates], [score for _, score in one.rates]
        lines.append(Line(one.method, x, y, style(place), [(one.rate, max(y), "chosen")]))
        tried = ", ".join(f"{rate:g}: {percent(score)}" for rate, score in one.rates)
        edge = "the best lies at the edge" if one.at_edge else ""
        rows.append(
            [Cell(one.method, one.method), Cell(f"{one.rate:g}", one.rate, edge), Cell(tried)]
        )
    axes = (
        logarithmic("learning rate", [v for line in lines for v in line.x]),
        linear("score on held-out source images, percent", [v for line in lines for v in line.y]),
    )
    words = "; ".join(f"{one.method}: best at {one.rate:g}" for one in summary.searches)
    columns = [Column("method", number=False), Column("rate"), Column("tried", number=False)]
    return join(
        tag("figure", line_chart(lines, *axes, words=words), class_="panel"),
        legend([(line.name, line.style) for line in lines]),
        table("Learning rates tried, and the score of each", columns, rows),
    )
