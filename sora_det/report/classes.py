"""The section of classes: AP50 of each in every domain, as a table and as bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..evaluation.compare import Comparison, Spread, shortened
from ..evaluation.scores import ClassScore, mean
from ..evaluation.table import DomainTable
from .axes import Axis, linear
from .charts import Bar, Row, bar_chart, legend, style
from .headline import FEW, domain_styles, level, range_of
from .html import Markup, join, tag
from .runs import Run
from .tables import Cell, Column, table
from .words import NONE, percent


def classes_section(runs: Sequence[Run], comparison: Comparison) -> Markup:
    """Return AP50 of every class, as a table and as bars."""
    first = runs[0].table
    if len(runs) == 1:
        who, rows, below = [], _classes(first), _class_summary(first)
        small = f"± is half of the {level(first)} interval, " if first.bootstrap else ""
        bars = _single_bars(first)
    else:
        who = [Column("method", number=False)]
        rows, below = _method_classes(comparison), _method_means(comparison)
        small = "± is the standard deviation over the runs of a method, "
        bars = _method_bars(comparison)
    named = [Column(name) for name in first.protocol.classes]
    columns = [Column("domain", number=False), *who, *named, Column("mean")]
    caption = "AP50 by class in percent; darker is better"
    intro = f"In small print: {small}then the number of boxes to find, which are few below {FEW}."
    return join(tag("p", intro), table(caption, columns, rows, below), bars)


def _classes(result: DomainTable) -> list[list[Cell]]:
    top = max((c.ap50 or 0.0 for s in result.scores for c in s.classes), default=0.0)
    rows = []
    for s in result.scores:
        cells = [
            _class(c, c.ap50, f"±{percent(c.interval.half)}" if c.interval else "", top)
            for c in s.classes
        ]
        more = f"±{percent(s.interval.half)}" if s.interval else ""
        rows.append([Cell(s.domain, s.domain), *cells, _mean(s.ap50, more)])
    return rows


def _class_summary(result: DomainTable) -> list[list[Cell]]:
    return [
        [Cell(row.name, None, row.domain), *(Cell(percent(v), v) for v in row.values[:-1])]
        for row in result.summary()
    ]


def _method_classes(comparison: Comparison) -> list[list[Cell]]:
    methods = comparison.methods
    names = shortened([method.name for method in methods])
    scores = methods[0].tables[0].scores
    top = max(c.ap50 or 0.0 for m in methods for t in m.tables for s in t.scores for c in s.classes)
    rows = []
    for s in scores:
        for name, method in zip(names, methods, strict=True):
            cells = []
            for c in s.classes:
                spread = method.spread(_of_class(s.domain, c.name))
                cells.append(_class(c, spread.mean if spread else None, _deviation(spread), top))
            whole = method.spread(_of_domain(s.domain))
            cells.append(_mean(whole.mean if whole else None, _deviation(whole)))
            rows.append([Cell(s.domain, s.domain), Cell(name, name), *cells])
    return rows


def _method_means(comparison: Comparison) -> list[list[Cell]]:
    methods = comparison.methods
    names = shortened([method.name for method in methods])
    values: list[Callable[[DomainTable], float | None]] = [
        partial(_target_mean, name=name) for name in methods[0].tables[0].protocol.classes
    ]
    values.append(DomainTable.target_mean)
    rows = []
    for name, method in zip(names, methods, strict=True):
        spreads = [method.spread(value) for value in values]
        cells = [Cell(percent(s.mean if s else None), None, _deviation(s)) for s in spreads]
        rows.append([Cell("target mean"), Cell(name, name), *cells])
    return rows if methods[0].tables[0].targets else []


def _target_mean(result: DomainTable, name: str) -> float | None:
    return mean(_of_class(target.domain, name)(result) for target in result.targets)


def _deviation(spread: Spread | None) -> str:
    return f"±{percent(spread.deviation)}" if spread and spread.deviation is not None else ""


def _mean(value: float | None, small: str) -> Cell:
    return Cell(tag("b", percent(value)), value, small)


def _class(c: ClassScore, value: float | None, small: str, top: float) -> Cell:
    if value is None:
        return Cell(NONE, None, "no boxes")
    boxes = f"{c.boxes:,}" + (" few" if c.boxes < FEW else "")
    words = f"{small} · {boxes}" if small else boxes
    return Cell(percent(value), value, words, value / top if top else 0.0)


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
                height = spread.mean if spread else None
                bars.append(Bar(height, style(place), words, dots=dots if len(dots) > 1 else ()))
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


def _of_domain(domain: str) -> Callable[[DomainTable], float | None]:
    return lambda result: next((s.ap50 for s in result.scores if s.domain == domain), None)


def _of_class(domain: str, name: str) -> Callable[[DomainTable], float | None]:
    def value(result: DomainTable) -> float | None:
        found = [
            c for s in result.scores if s.domain == domain for c in s.classes if c.name == name
        ]
        return found[0].ap50 if found else None

    return value
