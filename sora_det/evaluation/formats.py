"""The table of domains as text, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from ..untrusted.text import shown
from .layout import csv_text, latex_table, markdown, markdown_table, text_table
from .scores import LRP, METRICS, DomainScore, Interval, difference, mean, share

if TYPE_CHECKING:
    from .table import DomainTable

TARGET_MEAN = "target mean"
CSV_HEAD = ("domain", "role", "class", "metric", "value", "low", "high", "boxes")
HEADS = {
    "coco_ap": "AP",
    "coco_ap50": "AP.50",
    "coco_ap75": "AP.75",
    "coco_small": "small",
    "coco_medium": "medium",
    "coco_large": "large",
}


class Summary(NamedTuple):
    """A row below the domains: AP50 of every class, its mean over classes, and COCO AP."""

    name: str
    domain: str
    values: list[float | None]


class Further(NamedTuple):
    """A table beside the main one."""

    title: str
    head: list[str]
    rows: list[list[str]]
    below: list[list[str]]


def as_text(table: DomainTable) -> str:
    lines = [shown(title(table)), text_table(*cells(table))]
    for part in further(table):
        lines += [part.title, text_table(*part[1:])]
    return "\n".join([*lines, *map(shown, table.notes())]) + "\n"


def as_latex(table: DomainTable) -> str:
    notes = "".join(f"% {shown(line)}\n" for line in (title(table) + ".", *table.notes()))
    more = (f"\n% {part.title}\n{latex_table(*part[1:])}" for part in further(table))
    return notes + latex_table(*cells(table)) + "".join(more)


def as_csv(table: DomainTable) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for score in table.scores:
        start = (csv_text(score.domain), score.role)
        for c in score.classes:
            own = (*start, csv_text(c.name))
            writer.writerow([*own, "ap50", *_value(c.ap50, c.interval), c.boxes])
            writer.writerows(
                [*own, name, *_value(value), c.boxes] for name, value in _errors(c.lrp)
            )
        for metric in METRICS:
            interval = score.interval if metric == "ap50" else None
            value = getattr(score, metric)
            writer.writerow([*start, "", metric, *_value(value, interval), score.boxes])
        for name, value in (*_errors(score.lrp), ("d_ece", score.d_ece)):
            if value is not None:
                writer.writerow([*start, "", name, *_value(value), score.boxes])
    writer.writerows(_summary(table))
    return out.getvalue()


def as_markdown(table: DomainTable) -> str:
    protocol, run = table.protocol, table.run
    lines = [f"# Results on {markdown(table.benchmark)}", "", markdown(title(table)) + ".", ""]
    lines += [markdown_table(*cells(table)), ""]
    notes = table.notes()
    lines += [f"- {markdown(note)}" for note in notes] + ([""] if notes else [])
    for part in further(table):
        lines += [f"## {part.title}", "", markdown_table(*part[1:]), ""]
    rows = [[s.domain, *(str(c.boxes) for c in s.classes), str(s.ignored)] for s in table.scores]
    lines += ["## Ground-truth boxes", ""]
    lines += [markdown_table(["domain", *protocol.classes, "ignored"], rows), ""]
    lines += ["## Protocol", ""]
    plain = {f.name: getattr(protocol, f.name) for f in fields(protocol) if f.name != "splits"}
    if table.bootstrap:
        plain["bootstrap"] = ", ".join(f"{k} {v}" for k, v in asdict(table.bootstrap).items())
    lines += bullets(plain)
    rows = [
        [s.domain, s.dataset, s.file, s.sha256[:12], s.annotations[:12], str(s.images)]
        for s in protocol.splits
    ]
    heads = ["domain", "dataset", "split file", "SHA-256", "annotations", "images"]
    lines += ["", markdown_table(heads, rows), ""]
    return "\n".join([*lines, "## Run", "", *bullets(asdict(run))]) + "\n"


def title(table: DomainTable) -> str:
    """One line that says what the numbers are."""
    p = table.protocol
    points = "11 points" if p.interpolation == "11point" else "area"
    sign = ">" if p.strict else ">="
    kept = f", boxes with a side below {p.min_side:g} pixels left out" if p.min_side else ""
    ends = f"; ±: half of the {table.bootstrap.level:.0%} interval" if table.bootstrap else ""
    return (
        f"{table.benchmark}: AP50 per class and mean (VOC, {points}, IoU {sign} {p.iou:g}) "
        f"and COCO AP, in percent{kept}{ends}"
    )


def cells(table: DomainTable) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Headings, the rows of the domains, and the rows below the line (none without targets)."""
    head = ["domain", "role", "images", "boxes", *table.protocol.classes, "AP50", "AP"]
    rows = []
    for score in table.scores:
        values = map(percent, _values(score))
        rows.append([score.domain, score.role, str(score.images), str(score.boxes), *values])
        if table.bootstrap:
            ends = [*(c.interval for c in score.classes), score.interval]
            rows.append(["", "", "", "", *map(_half, ends), ""])
    return head, rows, _below(table)


def summary(table: DomainTable) -> list[Summary]:
    """The targets together and against the source, none without targets."""
    if not table.targets:
        return []
    means = [mean(column) for column in zip(*map(_values, table.targets), strict=True)]
    rows = [Summary(TARGET_MEAN, "", means)]
    if worst := table.worst_target():
        rows.append(Summary("worst target", worst.domain, _values(worst)))
    if table.source:
        pairs = list(zip(_values(table.source), means, strict=True))
        drops = [difference(source, target) for source, target in pairs]
        kept = [share(target, source) for source, target in pairs]
        rows += [Summary("drop from source", "", drops), Summary("relative robustness", "", kept)]
    return rows


def _below(table: DomainTable) -> list[list[str]]:
    rows = []
    for row in summary(table):
        rows.append([row.name, row.domain, "", "", *map(percent, row.values)])
        if table.bootstrap and row.name == TARGET_MEAN:
            gap = [""] * len(table.protocol.classes)
            rows.append(["", "", "", "", *gap, _half(table.target_interval), ""])
    return rows


def further(table: DomainTable) -> list[Further]:
    """COCO's scores, and what is only there if asked for."""
    heads = ["domain", *HEADS.values()]
    rows = [[s.domain, *(percent(getattr(s, m)) for m in HEADS)] for s in table.scores]
    means = [mean(getattr(s, m) for s in table.targets) for m in HEADS]
    below = [[TARGET_MEAN, *map(percent, means)]] if table.targets else []
    parts = [Further("COCO scores, AP at two overlaps and by size of box", heads, rows, below)]
    if any(score.lrp for score in table.scores):
        heads = ["domain", *table.protocol.classes, "mean", "localisation", "FP", "FN"]
        rows = [
            [
                s.domain,
                *(percent(c.lrp.error if c.lrp else None) for c in s.classes),
                *(percent(getattr(s.lrp, f.name, None)) for f in fields(LRP)),
            ]
            for s in table.scores
        ]
        words = "Localisation-recall-precision error, lower is better"
        parts.append(Further(words, heads, rows, []))
    if any(score.d_ece is not None for score in table.scores):
        rows = [[s.domain, percent(s.d_ece)] for s in table.scores]
        words = "Calibration error of the scores (D-ECE), lower is better"
        parts.append(Further(words, ["domain", "D-ECE"], rows, []))
    return parts


def percent(value: float | None) -> str:
    """One decimal, "-" for a score that does not exist."""
    return "-" if value is None else f"{round(value, 1) + 0.0:.1f}"  # no "-0.0"


def bullets(values: dict[str, Any]) -> list[str]:
    """One Markdown line per entry that is known."""
    lines = []
    for name, value in values.items():
        if value is not None and value != "":
            text = ", ".join(value) if isinstance(value, tuple) else str(value)
            lines.append(f"- {name.replace('_', ' ')}: {markdown(text)}")
    return lines


def _values(score: DomainScore) -> list[float | None]:
    return [*(c.ap50 for c in score.classes), score.ap50, score.coco_ap]


def _half(interval: Interval | None) -> str:
    return f"±{interval.half:.1f}" if interval else ""


def _errors(lrp: LRP | None) -> Iterable[tuple[str, float | None]]:
    return [(f"lrp_{name}", value) for name, value in asdict(lrp).items()] if lrp else []


def _summary(table: DomainTable) -> Iterable[Sequence[object]]:
    """Lines of CSV on all targets together; the worst one is named in place of a role."""
    if not table.targets:
        return
    for metric in METRICS:
        interval = table.target_interval if metric == "ap50" else None
        yield [TARGET_MEAN, "", "", metric, *_value(table.target_mean(metric), interval), ""]
    if worst := table.worst_target():
        value = _value(worst.ap50, worst.interval)
        yield ["worst target", csv_text(worst.domain), "", "ap50", *value, worst.boxes]
    if table.source:
        for metric in METRICS:
            yield ["drop from source", "", "", metric, *_value(table.drop(metric)), ""]
            kept = share(table.target_mean(metric), table.source.metric(metric))
            yield ["relative robustness", "", "", metric, *_value(kept), ""]


def _value(value: float | None, interval: Interval | None = None) -> Sequence[object]:
    """Full precision; an empty field stands for what does not exist."""
    low, high = (interval.low, interval.high) if interval else ("", "")
    return ["" if value is None else value, low, high]
