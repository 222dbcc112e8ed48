"""Sections on where the numbers come from: analyses, protocol, environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ..evaluation.protocol import Protocol, RunInfo
from .html import Child, Markup, join, tag
from .runs import Run
from .tables import Cell, Column, table
from .words import count

RULES = {
    "classes": "classes",
    "iou": "overlap needed (IoU)",
    "strict": "the overlap must exceed it",
    "interpolation": "interpolation",
    "pixel": "box widths",
    "difficult": "difficult and crowd boxes",
    "clipped": "detections cut off at the image's border",
    "absent_classes": "classes without ground truth",
    "max_detections": "detections kept per image",
    "score_threshold": "lowest score kept",
    "coco_max_detections": "COCO's limit per image and class",
    "min_side": "boxes left out",
}
MEANINGS = {
    "11point": "11 recall levels (VOC 2007)",
    "area": "area under the curve (VOC 2010)",
    "continuous": "continuous, x2 - x1",
    "inclusive": "the last pixel included, x2 - x1 + 1",
    "skip": "left out of the mean",
    "zero": "count as 0",
}
INFO = {
    "method": "method",
    "config": "config",
    "config_sha256": "SHA-256 of the config",
    "seed": "seed",
    "checkpoint": "checkpoint",
    "iteration": "iterations trained",
    "weights": "weights came from",
    "random_init": "backbone started from random numbers",
    "trainable": "trained parameters",
    "parameters": "all parameters",
    "device": "device",
    "sora_det": "sora_det",
    "detectron2": "Detectron2",
    "torch": "PyTorch",
    "python": "Python",
    "date": "date of the evaluation",
}


def analyses_section(runs: Sequence[Run]) -> Markup:
    """Return the plots that analyses have left in the runs' folders."""
    parts: list[Markup] = []
    for run in runs:
        if len(runs) > 1 and run.plots:
            parts.append(tag("h3", run.name))
        for plot in run.plots:
            name = tag("figcaption", plot.title, tag("small", plot.place))
            if not plot.uri:
                note = tag(
                    "p", "This plot is too large for this page; see its file.", class_="absent"
                )
                parts.append(tag("figure", note, name, class_="plot"))
                continue
            image = tag("img", src=plot.uri, alt=f"Plot: {plot.title}", decoding="async")
            parts.append(tag("figure", image, name, class_="plot"))
    if not parts:
        return tag(
            "p",
            "There are none in this run's folder. scripts/analyze_spectrum.py and "
            "scripts/analyze_forgetting.py make them; with --output below the run's folder they "
            "appear here.",
            class_="absent",
        )
    return join(parts)


def protocol_section(runs: Sequence[Run]) -> Markup:
    """Return the rules behind the scores, of the first run or, where they differ, of every one."""
    protocols = list(dict.fromkeys(run.table.protocol for run in runs))
    parts: list[Child] = []
    for protocol in protocols:
        if len(protocols) > 1:
            names = [run.name for run in runs if run.table.protocol == protocol]
            parts.append(tag("h3", ", ".join(names)))
        parts += [_rules(protocol), _splits(protocol)]
    return join(parts)


def environment_section(runs: Sequence[Run]) -> Markup:
    """Return what was run and with what, a column per run."""
    columns = [Column("", number=False), *(Column(run.name, number=False) for run in runs)]
    rows = []
    for field in fields(RunInfo):
        shown = [_shown(run.table.run, field.name) for run in runs]
        if any(shown):
            cells = [Cell(tag("code", text) if "sha" in field.name else text) for text in shown]
            name = INFO.get(field.name, field.name.replace("_", " "))
            rows.append((field.name, [Cell(name), *cells]))
    order = {name: place for place, name in enumerate(INFO)}
    rows.sort(key=lambda row: order.get(row[0], len(order)))
    return table("What was run", columns, [cells for _, cells in rows], sortable=False)


def _rules(protocol: Protocol) -> Markup:
    entries = []
    for field in fields(Protocol):
        if field.name == "splits":
            continue
        value = getattr(protocol, field.name)
        shown = MEANINGS.get(value, _value(value)) if isinstance(value, str) else _value(value)
        if field.name == "min_side":
            shown = f"with a side below {value:g} pixels" if value else "none"
        name = RULES.get(field.name, field.name.replace("_", " "))
        entries.append(tag("div", tag("dt", name), tag("dd", shown or "unknown")))
    return tag("dl", entries)


def _splits(protocol: Protocol) -> Markup:
    columns = [
        Column("domain", number=False),
        Column("images"),
        Column("boxes", "ground truth that counts"),
        Column("ignored", "ground truth that counts neither way"),
        Column("split file", number=False),
        Column("SHA-256", "of the split file", number=False),
        Column("annotations", "SHA-256 over names, sizes and boxes", number=False),
        Column("data set", number=False),
    ]
    rows = []
    for s in protocol.splits:
        counts = [Cell(f"{n:,}", n) for n in (s.images, s.boxes, s.ignored)]
        sums = [
            Cell(tag("code", text[:12], title=text) if text else "unknown", text)
            for text in (s.sha256, s.annotations)
        ]
        file, dataset = Cell(s.file or "unknown", s.file), Cell(s.dataset, s.dataset)
        rows.append([Cell(s.domain, s.domain), *counts, file, *sums, dataset])
    total = count(sum(s.images for s in protocol.splits), "image")
    return table(f"Test images: {total}; checksums are cut to 12 digits", columns, rows)


def _shown(info: RunInfo, name: str) -> str:
    """Return an entry in words; of a detector from elsewhere nobody knows how it started."""
    known = name != "random_init" or info.random_init or info.config or info.weights
    return _value(getattr(info, name)) if known else ""


def _value(value: Any) -> str:
    """Return a value in words, "" if it is unknown."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10000 else str(value)
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
