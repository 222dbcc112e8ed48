"""The top of the page: what was tested, the few numbers that matter, and how far to trust them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..evaluation.compare import Comparison, Spread, shortened
from ..evaluation.scores import DomainScore, Interval
from ..evaluation.table import DomainTable
from .axes import linear
from .charts import Bar, Row, bar_chart, legend, style
from .html import Markup, join, tag
from .runs import Run
from .tables import Cell, Column, table
from .words import NONE, count, listed, percent

WIDE = 5.0  # points to either side, from which an interval is called out
FEW = 50  # boxes; of a class with fewer, one box is worth more than two points


def headline(runs: Sequence[Run], comparison: Comparison) -> Markup:
    """Return what is seen first."""
    first = runs[0].table
    if len(runs) == 1:
        numbers = join(_tiles(first), _beside(_overview(first), _notes(runs, comparison)))
    else:
        drawn = _beside(grouped_bars(comparison), _notes(runs, comparison))
        numbers = join(methods_table(comparison), drawn)
    return join(
        tag("p", _what(first, len(runs)), class_="lead"),
        _warnings(runs, comparison),
        numbers,
    )


def _beside(left: Markup, right: Markup) -> Markup:
    return tag("div", left, right, class_="beside")


def domain_styles(scores: Sequence[DomainScore]) -> dict[str, str]:
    """Give every domain its look on the whole page, the source that of the text."""
    targets = [s.domain for s in scores if s.role == "target"]
    looks = {domain: style(place) for place, domain in enumerate(targets)}
    return {s.domain: looks.get(s.domain, "ink") for s in scores}


def range_of(interval: Interval | None) -> str:
    """Return an interval as "1.2 to 3.4", "" without one."""
    return f"{percent(interval.low)} to {percent(interval.high)}" if interval else ""


def level(result: DomainTable) -> str:
    """Return "95%", the level of the intervals."""
    return f"{100 * result.bootstrap.level:g}%" if result.bootstrap else "95%"


def _what(first: DomainTable, runs: int) -> Markup:
    classes, targets = first.protocol.classes, [s.domain for s in first.targets]
    one = "A detector" if runs == 1 else "Detectors"
    seen = f"{one} trained on one domain" if first.source else one
    parts: list[Markup | str] = [seen]
    if first.source:
        parts += [", ", tag("b", first.source.domain), " (the source),"]
    if targets:
        parts += [
            " and tested " + ("on it and " if first.source else "") + "on ",
            f"{count(len(targets), 'domain')} never seen in training (the targets): ",
            f"{listed(targets)}. ",
        ]
    else:
        parts += [" and tested there alone. " if first.source else ", tested. "]
    pronoun = "It looks" if runs == 1 else "They look"
    parts += [
        f"{pronoun} for {count(len(classes), 'class', 'classes')}: {listed([*classes], 12)}. "
    ]
    points = "11 recall levels" if first.protocol.interpolation == "11point" else "all recalls"
    parts += [
        tag("b", "AP50"),
        f" is the precision averaged over {points} and over the classes; a box counts as found if "
        f"a predicted one overlaps it by at least {100 * first.protocol.iou:g}% (intersection over "
        "union). 100 is perfect, 0 is nothing found.",
    ]
    return join(parts)


def _tiles(result: DomainTable) -> Markup:
    tiles = []
    if result.source:
        source = result.source
        trained = f"on {source.domain}, where it was trained"
        tiles.append(_tile("Source", percent(source.ap50), source.interval, result, trained))
    if result.targets:
        drop = result.drop()
        words = f"mean of {count(len(result.targets), 'domain')} it never saw"
        if drop is not None:
            more = "less" if drop >= 0 else "more"
            words += f", {percent(abs(drop))} points {more} than the source"
        mean = percent(result.target_mean())
        tiles.append(_tile("Target mean", mean, result.target_interval, result, words))
    worst = result.worst_target()
    if worst:
        words = f"on {worst.domain}"
        tiles.append(_tile("Worst target", percent(worst.ap50), worst.interval, result, words))
    kept = result.relative_robustness()
    if result.source and result.targets:
        words = "of the source's score is kept on the targets (target mean divided by source)"
        shown = NONE if kept is None else f"{100 * kept:.0f}%"
        tiles.append(_tile("Relative robustness", shown, None, result, words, unit=""))
    return tag("div", tiles, class_="tiles")


def _tile(
    name: str,
    value: str,
    interval: Interval | None,
    result: DomainTable,
    words: str,
    unit: str = "AP50",
) -> Markup:
    return tag(
        "div",
        tag("h3", name),
        tag("p", tag("strong", value), tag("span", f" {unit}") if unit else None, class_="big"),
        tag("p", f"{level(result)} interval {range_of(interval)}") if interval else None,
        tag("p", words),
        class_="tile",
    )


def _overview(result: DomainTable) -> Markup:
    """Draw the mean of every domain."""
    looks = domain_styles(result.scores)
    rows = []
    for s in result.scores:
        low, high = (s.interval.low, s.interval.high) if s.interval else (None, None)
        words = f"{s.domain}: AP50 {percent(s.ap50)} {range_of(s.interval)}"
        rows.append(Row(s.domain, "", [Bar(s.ap50, looks[s.domain], words, low, high)]))
    whiskers = f" Whiskers: {level(result)} intervals." if result.bootstrap else ""
    first = "; the first is the source" if result.source else ""
    return _chart(rows, f"AP50 of every domain, in percent{first}.{whiskers}")


def grouped_bars(comparison: Comparison) -> Markup:
    """Draw the mean of every domain for every method."""
    methods = comparison.methods
    names = shortened([method.name for method in methods])
    rows = []
    for name, value in comparison.columns.items():
        if name in ("drop", "robustness"):
            continue
        bars = []
        for place, method in enumerate(methods):
            spread = method.spread(value)
            dots = [v for v in map(value, method.tables) if v is not None]
            bars.append(
                Bar(
                    spread.mean if spread else None,
                    style(place),
                    f"{names[place]}, {name}: {spread or NONE}",
                    dots=dots if len(dots) > 1 else (),
                )
            )
        rows.append(Row(name, "", bars))
    drawn = _chart(rows, "AP50 in percent. Bars are means over runs, dots single runs.")
    looks = legend([(name, style(i)) for i, name in enumerate(names)], lines=False)
    return tag("div", looks, drawn)


def _chart(rows: Sequence[Row], caption: str) -> Markup:
    every = [v for r in rows for b in r.bars for v in (b.value, b.high, *b.dots) if v is not None]
    said = "; ".join(bar.words for row in rows for bar in row.bars)
    drawn = bar_chart(rows, linear("AP50", every), words=f"Bars. {said}")
    return tag("figure", drawn, tag("figcaption", caption), class_="panel overview")


def methods_table(comparison: Comparison) -> Markup:
    """Put the methods side by side."""
    words = {
        "target mean": "mean over the domains never seen in training",
        "worst target": "the lowest of them",
        "drop": "source minus target mean, in points",
        "robustness": "target mean divided by source, in percent",
    }
    columns = [Column("method", number=False), Column("runs", "number of training runs")]
    columns += [Column(name, words.get(name, "")) for name in comparison.columns]
    rows = []
    names = shortened([method.name for method in comparison.methods])
    for name, method in zip(names, comparison.methods, strict=True):
        seeds = ", ".join(NONE if seed is None else str(seed) for seed in method.seeds)
        cells = [Cell(name, name, f"seeds {seeds}")]
        cells += [Cell(len(method.tables), len(method.tables))]
        cells += [_spread(method.spread(value)) for value in comparison.columns.values()]
        rows.append(cells)
    caption = (
        "Methods side by side: AP50 in percent, mean ± standard deviation over runs that differ in "
        "their seed alone"
    )
    return table(caption, columns, rows)


def _spread(found: Spread | None) -> Cell:
    if found is None:
        return Cell(NONE)
    more = "" if found.deviation is None else f"± {percent(found.deviation)}"
    return Cell(percent(found.mean), found.mean, more)


def _warnings(runs: Sequence[Run], comparison: Comparison) -> Markup | None:
    """Say loudly what makes numbers wrong to use."""
    whose = {run.name: run.warnings for run in runs}
    lines = [tag("li", text) for text in _of_all(whose)]
    if comparison.differences:
        differing = tag("ul", [tag("li", text) for text in comparison.differences])
        text = "These runs were scored under different protocols. Their scores do not compare:"
        lines.append(tag("li", tag("b", text), differing))
    if not lines:
        return None
    return tag("div", tag("h2", "Warning"), tag("ul", lines), class_="warning", role="alert")


def _notes(runs: Sequence[Run], comparison: Comparison) -> Markup:
    """Say how far to trust the numbers."""
    notes = [
        *_of_all({run.name: _without_intervals(run.table).notes() for run in runs}),
        _about_seeds(runs, comparison),
        _about_intervals([run.table for run in runs]),
        *(_uncertain(runs[0].table) if len(runs) == 1 else ()),
        *_few(runs[0].table),
    ]
    items = [tag("li", note) for note in notes]
    return tag("div", tag("h2", "How far to trust this"), tag("ul", items), class_="notes")


def _of_all(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Join equal notes of several runs and say whose they are."""
    whose: dict[str, list[str]] = {}
    for run, lines in notes.items():
        for line in lines:
            whose.setdefault(line, []).append(run)
    return [
        line if len(names) == len(notes) else f"{listed(names)}: {line}"
        for line, names in whose.items()
    ]


def _without_intervals(result: DomainTable) -> DomainTable:
    """Drop the intervals of classes, of which the table's own notes would list every wide one."""
    scores = (
        replace(s, classes=tuple(replace(c, interval=None) for c in s.classes))
        for s in result.scores
    )
    return replace(result, scores=tuple(scores))


def _about_seeds(runs: Sequence[Run], comparison: Comparison) -> str:
    if len(runs) == 1:
        seed = runs[0].table.run.seed
        words = "" if seed is None else f" (seed {seed})"
        return (
            f"This is one training run{words}. Another seed gives other scores; a report of "
            "several runs shows how far they spread."
        )
    single = [method.name for method in comparison.methods if len(method.tables) == 1]
    if single:
        return f"One run each, so that no spread is known: {listed(shortened(single))}."
    return "A standard deviation over few seeds is itself rough."


def _uncertain(result: DomainTable) -> list[str]:
    """Name the domains in which the scores of classes are vague."""
    found = []
    for s in result.scores:
        wide = sum((c.doubt or 0.0) > WIDE for c in s.classes)
        if wide:
            found.append(f"{wide} of {len(s.classes)} in {s.domain}")
    if not found:
        return []
    return [
        f"Classes whose AP50 is uncertain by more than ±{WIDE:g} points: {listed(found)}. The "
        "table of classes shows each."
    ]


def _few(result: DomainTable) -> list[str]:
    """Name the classes with few boxes."""
    found = []
    for place, name in enumerate(result.protocol.classes):
        counts = {s.domain: s.classes[place].boxes for s in result.scores}
        few = {domain: boxes for domain, boxes in counts.items() if 0 < boxes < FEW}
        if len(few) == 1:
            found.append(f"{name} in {next(iter(few))} ({next(iter(few.values()))})")
        elif few:
            ends = f"{min(few.values())} to {max(few.values())}"
            found.append(f"{name} in {len(few)} of {len(counts)} domains ({ends})")
    if not found:
        return []
    return [
        f"Few boxes to go by: {listed(found)}. With fewer than {FEW} boxes in a class, each one is "
        f"worth more than {100 / FEW:g} points of recall."
    ]


def _about_intervals(tables: Sequence[DomainTable]) -> str:
    made = next((t.bootstrap for t in tables if t.bootstrap), None)
    if made is None:
        return (
            "There are no confidence intervals in these results: differences of a point or two may "
            "be chance."
        )
    return (
        f"Intervals are {100 * made.level:g}% bootstrap intervals ({made.replicates} draws of the "
        "test images): what other images of the same kind could have given. They say nothing about "
        "other trainings."
    )
