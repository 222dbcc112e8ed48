"""The section of domains: all their scores in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ..evaluation.scores import METRICS, DomainScore, Metric, share
from ..evaluation.table import DomainTable
from .headline import level, range_of
from .html import Markup, join, tag
from .looks import Look
from .runs import Run
from .tables import Cell, Column, table
from .words import percent

HEADS = {
    "ap50": ("AP50", "VOC average precision at IoU 0.5, mean over classes"),
    "coco_ap": ("AP", "COCO: mean over IoU 0.50 to 0.95"),
    "coco_ap50": (
        "AP\N{NO-BREAK SPACE}.50",
        "COCO's AP at IoU 0.50; 101 recall levels, so not quite AP50",
    ),
    "coco_ap75": ("AP\N{NO-BREAK SPACE}.75", "COCO's AP at IoU 0.75: boxes must fit well"),
    "coco_small": ("small", "COCO AP of boxes below 32² pixels"),
    "coco_medium": ("medium", "COCO AP of boxes from 32² to 96² pixels"),
    "coco_large": ("large", "COCO AP of boxes above 96² pixels"),
}


def domains_section(runs: Sequence[Run], looks: Mapping[str, Look]) -> Markup:
    """Return the table of domains, of every run."""
    several = len(runs) > 1
    metrics = list(METRICS)
    lrp = any(s.lrp for run in runs for s in run.table.scores)
    d_ece = any(s.d_ece is not None for run in runs for s in run.table.scores)
    columns = [Column("domain", number=False)]
    columns += [Column("run", "name of its folder", number=False)] if several else []
    columns.append(Column("role", "source: trained on; target: never seen", number=False))
    columns += [Column(*HEADS[m]) for m in metrics]
    if lrp:
        words = "localisation-recall-precision error: 0 is perfect, 100 nothing right"
        columns.append(Column("LRP", words))
    if d_ece:
        columns.append(Column("D-ECE", "how far scores are from the share that is right, points"))
    columns += [Column("images"), Column("boxes", "ground truth that counts")]
    rows = [
        _domain(s, [Cell(r.name, r.name, looks[r.name].method)] * several, metrics, lrp, d_ece)
        for s, r in _by_domain(runs)
    ]
    below = [] if several else _below(runs[0].table, metrics, 2 + lrp + d_ece)
    caption = f"Scores by domain in percent; below AP50 its {level(runs[0].table)} interval"
    intro = (
        "Every heading is a button: press it to sort, press it again to turn the order. What the "
        "columns mean is said below the table."
    )
    return join(
        tag("p", intro, class_="screen"),
        table(caption, columns, rows, below),
        _glossary(lrp, d_ece),
    )


def _by_domain(runs: Sequence[Run]) -> list[tuple[DomainScore, Run]]:
    """Return the scores of all runs, those of a domain together."""
    order = list(dict.fromkeys(s.domain for run in runs for s in run.table.scores))
    pairs = [(s, run) for run in runs for s in run.table.scores]
    return sorted(pairs, key=lambda pair: order.index(pair[0].domain))


def _domain(
    s: DomainScore, who: Sequence[Cell], metrics: Sequence[Metric], lrp: bool, d_ece: bool
) -> list[Cell]:
    cells = [Cell(s.domain, s.domain), *who, Cell(s.role, s.role)]
    for metric in metrics:
        value = s.metric(metric)
        if metric == "ap50":
            cells.append(Cell(tag("b", percent(value)), value, range_of(s.interval)))
        else:
            cells.append(Cell(percent(value), value))
    error = s.lrp.error if s.lrp else None
    cells += [Cell(percent(error), error)] if lrp else []
    cells += [Cell(percent(s.d_ece), s.d_ece)] if d_ece else []
    ignored = f"+ {s.ignored:,} ignored" if s.ignored else ""
    cells += [Cell(f"{s.images:,}", s.images), Cell(f"{s.boxes:,}", s.boxes, ignored)]
    return cells


def _below(result: DomainTable, metrics: Sequence[Metric], more: int) -> list[list[Cell]]:
    """Return the rows below the line."""
    if not result.targets:
        return []
    lines: list[tuple[str, Callable[[Metric], float | None]]] = [
        ("target mean", result.target_mean)
    ]
    if result.source:
        lines.append(("drop from source", result.drop))
        lines.append(("relative robustness", partial(_kept, result)))
    rows = []
    for name, value in lines:
        cells = [Cell(name), Cell("")]
        for metric in metrics:
            found = value(metric)
            whole = metric == "ap50" and name == "target mean"
            small = range_of(result.target_interval) if whole else ""
            cells.append(Cell(percent(found), found, small))
        rows.append(cells + [Cell("")] * more)
    return rows


def _kept(result: DomainTable, metric: Metric) -> float | None:
    return (
        share(result.target_mean(metric), result.source.metric(metric)) if result.source else None
    )


def _glossary(lrp: bool, d_ece: bool) -> Markup:
    """Say what headings mean where no pointer can be held."""
    entries = [HEADS[metric] for metric in METRICS]
    if lrp:
        entries.append(
            (
                "LRP",
                "error of finding, missing and placing boxes together, at the best threshold; "
                "lower is better",
            )
        )
    if d_ece:
        entries.append(
            (
                "D-ECE",
                "calibration: mean distance between a score and the share of such detections that "
                "is right, in points; lower is better",
            )
        )
    items = [tag("li", tag("b", name), f": {words}") for name, words in entries]
    return tag("ul", items, class_="glossary")
