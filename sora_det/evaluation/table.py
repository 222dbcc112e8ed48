"""The result of an evaluation: scores per domain, the protocol behind them, and what was run.

Plain data, written as JSON and read back. All scores are percent (0..100); None stands for a score
that does not exist, as for a class without ground truth.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from .layout import markdown_table, text_table
from .protocol import Protocol, RunInfo
from .strict_json import decode

FORMAT = "sora_det.domain_table"
VERSION = 1

Metric = Literal[
    "ap50", "coco_ap", "coco_ap50", "coco_ap75", "coco_small", "coco_medium", "coco_large"
]
METRICS: tuple[str, ...] = get_args(Metric)

_ABSENT = {"skip": "left out of its mean", "zero": "counted as 0"}


@dataclass(frozen=True)
class ClassScore:
    """One class in one domain.

    Attributes:
        name: class name.
        boxes: counted ground-truth boxes, ignored ones left out.
        ap50: VOC average precision in percent, None without ground truth.
    """

    name: str
    boxes: int
    ap50: float | None


@dataclass(frozen=True)
class DomainScore:
    """One domain.

    Attributes:
        domain: its name in the benchmark.
        role: "source" (trained on) or "target" (never seen).
        images: number of images evaluated.
        ignored: boxes that count neither way (VOC's difficult, COCO's crowd), over all classes.
        classes: one entry per class, in the protocol's order.
        ap50: mean of the classes' AP50 in percent.
        coco_ap: mean over IoU 0.50 to 0.95 and classes; coco_ap50 and coco_ap75 at one IoU;
            coco_small, coco_medium and coco_large by box area in the original image (limits 32²
            and 96² pixels). Percent.
    """

    domain: str
    role: Literal["source", "target"]
    images: int
    ignored: int
    classes: tuple[ClassScore, ...]
    ap50: float | None
    coco_ap: float | None
    coco_ap50: float | None
    coco_ap75: float | None
    coco_small: float | None
    coco_medium: float | None
    coco_large: float | None

    @property
    def boxes(self) -> int:
        """Counted ground-truth boxes over all classes."""
        return sum(c.boxes for c in self.classes)


@dataclass(frozen=True)
class DomainTable:
    """Scores of one model on the domains of one benchmark, the source first.

    Raises:
        ValueError: no scores, a domain twice, several sources, or classes unlike the protocol's,
            or a score outside 0..100.
    """

    benchmark: str
    protocol: Protocol
    scores: tuple[DomainScore, ...]
    run: RunInfo = field(default_factory=RunInfo)

    def __post_init__(self) -> None:
        names = [score.domain for score in self.scores]
        if not names:
            raise ValueError("a table needs at least one domain, got none")
        if len(set(names)) < len(names):
            raise ValueError(f"every domain may appear once, got {names}")
        if [score.role for score in self.scores[1:]].count("source"):
            raise ValueError("only the first domain may be the source")
        for score in self.scores:
            classes = tuple(c.name for c in score.classes)
            if classes != self.protocol.classes:
                raise ValueError(
                    f"domain {score.domain!r} must list the classes {self.protocol.classes}, "
                    f"got {classes}"
                )
            for value in [c.ap50 for c in score.classes] + [_metric(score, m) for m in METRICS]:
                if value is not None and not 0.0 <= value <= 100.0 + 1e-9:
                    raise ValueError(
                        f"scores must be 0..100 percent, got {value} in domain {score.domain!r}"
                    )

    @property
    def source(self) -> DomainScore | None:
        """The source domain, None if it was not evaluated."""
        return self.scores[0] if self.scores[0].role == "source" else None

    @property
    def targets(self) -> tuple[DomainScore, ...]:
        return tuple(score for score in self.scores if score.role == "target")

    def target_mean(self, metric: Metric = "ap50") -> float | None:
        """Mean over the targets (the source left out), None without any; None scores skipped."""
        return mean([_metric(score, metric) for score in self.targets])

    def drop(self, metric: Metric = "ap50") -> float | None:
        """Source minus target mean in points; positive where the targets are harder."""
        source = _metric(self.source, metric) if self.source else None
        return difference(source, self.target_mean(metric))

    def relative_robustness(self, metric: Metric = "ap50") -> float | None:
        """Target mean divided by source, a fraction; None if either is missing or source is 0."""
        source = _metric(self.source, metric) if self.source else None
        target = self.target_mean(metric)
        return None if target is None or not source else target / source

    def worst_target(self, metric: Metric = "ap50") -> DomainScore | None:
        """The target with the lowest score, the first of equals; None without any."""
        known = [s for s in self.targets if _metric(s, metric) is not None]
        return min(known, key=lambda s: _metric(s, metric) or 0.0, default=None)

    def notes(self) -> tuple[str, ...]:
        """What a reader must know beside the numbers, one sentence each; often none."""
        notes = []
        if self.run.random_init:
            notes.append("The backbone started from random numbers, not from pretrained weights.")
        for score in self.scores:
            absent = [c.name for c in score.classes if c.ap50 is None]
            if absent:
                effect = _ABSENT[self.protocol.absent_classes]
                notes.append(
                    f"{score.domain} has no ground truth for {', '.join(absent)}: {effect}."
                )
        return tuple(notes)

    def to_json(self) -> str:
        """A versioned JSON document; `from_json` gives an equal table."""
        worst = self.worst_target()
        summary = {
            "source": self.source.ap50 if self.source else None,
            "target_mean": self.target_mean(),
            "drop": self.drop(),
            "relative_robustness": self.relative_robustness(),
            "worst_target": worst.domain if worst else None,
        }
        document = {
            "format": FORMAT,
            "version": VERSION,
            "benchmark": self.benchmark,
            "summary": summary,
            "notes": self.notes(),
            "scores": [asdict(score) for score in self.scores],
            "run": asdict(self.run),
            "protocol": asdict(self.protocol),
        }
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> DomainTable:
        """Read what `to_json` wrote; the summary and the notes are derived afresh.

        Raises:
            ValueError: not JSON, another format or version, or a missing, unknown or ill-typed
                entry, named by its path in the document.
        """
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"a result file must be JSON: {error}") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"a result file must be a JSON object with format {FORMAT!r}")
        if document.get("version") != VERSION:
            raise ValueError(f"result version must be {VERSION}, got {document.get('version')!r}")
        derived = ("format", "version", "summary", "notes")
        table: DomainTable = decode(
            cls, {key: value for key, value in document.items() if key not in derived}, "result"
        )
        return table

    def cells(self) -> tuple[list[str], list[list[str]], list[list[str]]]:
        """Headings, one row per domain, and the rows below the line (none without targets)."""
        names = self.protocol.classes
        head = ["domain", "role", "images", "boxes", *names, "AP50", "AP"]
        values = [
            [*(c.ap50 for c in score.classes), score.ap50, score.coco_ap] for score in self.scores
        ]
        rows = [
            [score.domain, score.role, str(score.images), str(score.boxes), *map(percent, line)]
            for score, line in zip(self.scores, values, strict=True)
        ]
        below: list[list[str]] = []
        first = 1 if self.source else 0
        if values[first:]:
            means = [mean(column) for column in zip(*values[first:], strict=True)]
            below.append(["target mean", "", "", "", *map(percent, means)])
            if self.source:
                drops = [difference(a, b) for a, b in zip(values[0], means, strict=True)]
                below.append(["drop from source", "", "", "", *map(percent, drops)])
        return head, rows, below

    def title(self) -> str:
        """One line that says what the numbers are."""
        p = self.protocol
        points = "11 points" if p.interpolation == "11point" else "area"
        sign = ">" if p.strict else ">="
        return (
            f"{self.benchmark}: AP50 per class and mean (VOC, {points}, IoU {sign} {p.iou:g}) "
            "and COCO AP, in percent"
        )

    def to_text(self) -> str:
        """The table for a terminal, with a title and notes."""
        return "\n".join([self.title(), text_table(*self.cells()), *self.notes()]) + "\n"

    def to_markdown(self) -> str:
        """The table, its notes, the COCO scores, the protocol and the run, as Markdown."""
        p = self.protocol
        lines = [f"# Results on {self.benchmark}", "", self.title() + ".", ""]
        lines += [markdown_table(*self.cells()), ""]
        lines += [f"- {note}" for note in self.notes()] + ([""] if self.notes() else [])
        coco = [metric for metric in METRICS if metric != "ap50"]
        rows = [[s.domain, *(percent(_metric(s, m)) for m in coco)] for s in self.scores]
        heads = ["domain", *(m.removeprefix("coco_") for m in coco)]
        lines += ["## COCO scores", "", markdown_table(heads, rows, []), ""]
        rows = [[s.domain, *(str(c.boxes) for c in s.classes), str(s.ignored)] for s in self.scores]
        lines += ["## Ground-truth boxes", ""]
        lines += [markdown_table(["domain", *p.classes, "ignored"], rows, []), ""]
        lines += ["## Protocol", ""]
        lines += _bullets({f.name: getattr(p, f.name) for f in fields(p) if f.name != "splits"})
        rows = [[s.domain, s.dataset, s.file, s.sha256[:12], str(s.images)] for s in p.splits]
        heads = ["domain", "dataset", "split file", "SHA-256", "images"]
        lines += ["", markdown_table(heads, rows, []), ""]
        lines += ["## Run", "", *_bullets(asdict(self.run))]
        return "\n".join(lines) + "\n"

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write `results.json` and `results.md`, each whole or not at all.

        Returns:
            The two paths. The folder is made if need be; older results in it are replaced.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = folder / "results.json", folder / "results.md"
        for path, text in zip(paths, (self.to_json(), self.to_markdown()), strict=True):
            _replace(path, text)
        return paths


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that exist, None if none does."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def difference(a: float | None, b: float | None) -> float | None:
    """a - b, None if either is missing."""
    return None if a is None or b is None else a - b


def percent(value: float | None) -> str:
    """One decimal, "-" for a score that does not exist."""
    return "-" if value is None else f"{round(value, 1) + 0.0:.1f}"  # no "-0.0"


def _metric(score: DomainScore, metric: str) -> float | None:
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    value: float | None = getattr(score, metric)
    return value


def _bullets(values: dict[str, Any]) -> list[str]:
    """One Markdown line per entry that is known."""
    lines = []
    for name, value in values.items():
        if value is not None and value != "":
            shown = ", ".join(value) if isinstance(value, tuple) else value
            lines.append(f"- {name.replace('_', ' ')}: {shown}")
    return lines


def _replace(path: Path, text: str) -> None:
    """Write beside `path`, then rename: a reader sees the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)  # mkstemp makes files that only their owner may read
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
