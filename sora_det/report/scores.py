"""Sections of scores: domains, classes, bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..evaluation.compare import Comparison
from ..evaluation.scores import METRICS, ClassScore, DomainScore, Metric
from ..evaluation.table import DomainTable
from .axes import Axis, linear
from .charts import Bar, Row, bar_chart, legend, style
from .headline import FEW, domain_styles, level, range_of
from .html import Markup, join, tag
from .runs import Run
from .tables import Cell, Column, table
from .words import NONE, percent, shortened

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


def domains_section(runs: Sequence[Run]) -> Markup:
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
    rows = [_domain(s, r, metrics, several, lrp, d_ece) for r in runs for s in r.table.scores]
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


def classes_section(runs: Sequence[Run], comparison: Comparison) -> Markup:
    """Return AP50 of every class, as a table and as bars."""
    several = len(runs) > 1
    first = runs[0].table
    top = max((c.ap50 or 0 for r in runs for s in r.table.scores for c in s.classes), default=0)
    columns = [Column("domain", number=False)]
    columns += [Column("run", number=False)] if several else []
    columns += [*(Column(name) for name in first.protocol.classes), Column("mean")]
    rows = []
    for run in runs:
        for s in run.table.scores:
            head = [Cell(s.domain, s.domain)] + ([Cell(run.name, run.name)] if several else [])
            cells = [_class(c, top) for c in s.classes]
            more = f"±{percent(s.interval.half)}" if s.interval else ""
            rows.append([*head, *cells, Cell(tag("b", percent(s.ap50)), s.ap50, more)])
    made = f"± is half of the {level(first)} interval, " if first.bootstrap else ""
    caption = "AP50 by class in percent; darker is better"
    intro = f"In small print: {made}then the number of boxes to find."
    bars = _single_bars(first) if not several else _method_bars(comparison)
    return join(tag("p", intro), table(caption, columns, rows), bars)


def _domain(
    s: DomainScore, run: Run, metrics: Sequence[Metric], several: bool, lrp: bool, d_ece: bool
) -> list[Cell]:
    cells = [Cell(s.domain, s.domain)] + ([Cell(run.name, run.name)] if several else [])
    cells.append(Cell(s.role, s.role))
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


def _class(c: ClassScore, top: float) -> Cell:
    if c.ap50 is None:
        return Cell(NONE, None, "no boxes")
    spread = f"±{percent(c.interval.half)} · " if c.interval else ""
    boxes = f"{spread}{c.boxes:,}" + (" few" if c.boxes < FEW else "")
    return Cell(percent(c.ap50), c.ap50, boxes, c.ap50 / top if top else 0.0)


def _single_bars(result: DomainTable) -> Markup:
    looks = domain_styles(result.scores)
    panels = {}
    for s in result.scores:
        rows = []
        for c in s.classes:
            low, high = (c.interval.low, c.interval.high) if c.interval else (None, None)
            words = f"{c.name}: {percent(c.ap50)} {range_of(c.interval)}, {c.boxes} boxes"
            rows.append(
                Row(c.name, f"{c.boxes:,}", [Bar(c.ap50, looks[s.domain], words, low, high)])
            )
        panels[s.domain] = rows
    whiskers = f" Whiskers are {level(result)} intervals." if result.bootstrap else ""
    return _panels(panels, f"Grey numbers count the boxes to find.{whiskers}", None)


def _method_bars(comparison: Comparison) -> Markup:
    methods = comparison.methods
    names = shortened([method.name for method in methods])
    panels: dict[str, list[Row]] = {}
    for s in methods[0].tables[0].scores:
        rows = []
        for c in s.classes:
            value = _of_class(s.domain, c.name)
            bars = []
            for place, method in enumerate(methods):
                spread = method.spread(value)
                dots = [v for v in map(value, method.tables) if v is not None]
                words = f"{names[place]}, {c.name}: {spread or NONE}"
                mean = spread.mean if spread else None
                bars.append(Bar(mean, style(place), words, dots=dots if len(dots) > 1 else ()))
            rows.append(Row(c.name, f"{c.boxes:,}", bars))
        panels[s.domain] = rows
    looks = legend([(name, style(i)) for i, name in enumerate(names)], lines=False)
    words = "Grey numbers count the boxes to find. Bars are means over runs, dots single runs."
    return _panels(panels, words, looks)


def _panels(panels: dict[str, list[Row]], words: str, looks: Markup | None) -> Markup:
    """Draw a panel per domain, all on one axis."""
    bars = [bar for rows in panels.values() for row in rows for bar in row.bars]
    ends = [v for bar in bars for v in (bar.value, bar.high, *bar.dots) if v is not None]
    axis = linear("AP50", ends)
    drawn = [_panel(domain, rows, axis) for domain, rows in panels.items()]
    intro = f"AP50 of every class in percent, all panels on one scale. {words}"
    return join(tag("p", intro), looks, tag("div", drawn, class_="panels"))


def _panel(domain: str, rows: Sequence[Row], axis: Axis) -> Markup:
    said = "; ".join(bar.words for row in rows for bar in row.bars)
    chart = bar_chart(rows, axis, words=f"AP50 by class in {domain}. {said}")
    return tag("figure", tag("h3", domain), chart, class_="panel")


def _of_class(domain: str, name: str) -> Callable[[DomainTable], float | None]:
    def value(result: DomainTable) -> float | None:
        found = [
            c for s in result.scores if s.domain == domain for c in s.classes if c.name == name
        ]
        return found[0].ap50 if found else None

    return value
