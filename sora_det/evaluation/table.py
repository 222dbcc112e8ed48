"""The result of an evaluation: scores per domain, the protocol behind them, and what was run.

Plain data, written as JSON and read back. All scores are percent (0..100); None stands for a score
that does not exist, as for a class without ground truth.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import formats
from .protocol import Protocol, RunInfo
from .scores import METRICS, NOTHING, Bootstrap, DomainScore, Interval, Metric, difference, mean
from .strict_json import decode, parse

FORMAT = "sora_det.domain_table"
VERSION = 1

_ABSENT = {"skip": "left out of its mean", "zero": "counted as 0"}
_WIDE = 5.0  # points to either side; classes that are less certain are named


@dataclass(frozen=True)
class DomainTable:
    """Scores of one model on the domains of one benchmark, the source first.

    Attributes:
        benchmark: its name.
        protocol: how the scores were made.
        scores: one entry per domain.
        run: what was scored.
        bootstrap: how the intervals were made, None without any.
        target_interval: of the targets' mean AP50, each domain's images drawn by themselves.

    Raises:
        ValueError: no scores, a domain twice, several sources, or classes unlike the protocol's,
            or a score outside 0..100.
    """

    benchmark: str
    protocol: Protocol
    scores: tuple[DomainScore, ...]
    run: RunInfo = field(default_factory=RunInfo)
    bootstrap: Bootstrap | None = None
    target_interval: Interval | None = None

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
            for value in [c.ap50 for c in score.classes] + [getattr(score, m) for m in METRICS]:
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
        return mean([score.metric(metric) for score in self.targets])

    def drop(self, metric: Metric = "ap50") -> float | None:
        """Source minus target mean in points; positive where the targets are harder."""
        source = self.source.metric(metric) if self.source else None
        return difference(source, self.target_mean(metric))

    def relative_robustness(self, metric: Metric = "ap50") -> float | None:
        """Target mean divided by source, a fraction; None if one is missing or the source is 0."""
        source = self.source.metric(metric) if self.source else None
        target = self.target_mean(metric)
        return None if target is None or not source or source < NOTHING else target / source

    def worst_target(self, metric: Metric = "ap50") -> DomainScore | None:
        """The target with the lowest score, the first of equals; None without any."""
        known = [s for s in self.targets if s.metric(metric) is not None]
        return min(known, key=lambda s: s.metric(metric) or 0.0, default=None)

    def summary(self) -> list[formats.Summary]:
        """Return what stands below the domains: the targets together and against the source."""
        return formats.summary(self)

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
            vague = [
                f"{c.name} ({c.boxes} boxes)" for c in score.classes if c.doubt and c.doubt > _WIDE
            ]
            if vague:
                names = ", ".join(vague)
                notes.append(f"{score.domain}: uncertain by more than ±{_WIDE:g}: {names}.")
            if score.dropped:
                notes.append(
                    f"{score.domain}: {score.dropped} of {score.dropped + score.boxes} boxes are "
                    f"left out, with a side below {self.protocol.min_side:g} pixels; with them "
                    f"AP50 is {formats.percent(score.ap50_undropped)}."
                )
            notes += [f"{score.domain}: {r.count} {r.what}." for r in score.remarks]
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
            "target_interval": self.target_interval and asdict(self.target_interval),
            "bootstrap": self.bootstrap and asdict(self.bootstrap),
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
            document = parse(text)
        except ValueError as error:
            raise ValueError(f"a result file {error}") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"a result file must be a JSON object with format {FORMAT!r}")
        if document.get("version") != VERSION:
            raise ValueError(f"result version must be {VERSION}, got {document.get('version')!r}")
        derived = ("format", "version", "summary", "notes")
        table: DomainTable = decode(
            cls, {key: value for key, value in document.items() if key not in derived}, "result"
        )
        return table

    def to_text(self) -> str:
        """The table for a terminal, with a title and notes."""
        return formats.as_text(self)

    def to_markdown(self) -> str:
        """The table, its notes, further scores, the protocol and the run, as Markdown."""
        return formats.as_markdown(self)

    def to_csv(self) -> str:
        """One line per score: domain, role, class ("" for all), metric, value, low, high, boxes.

        A name that a spreadsheet would take for a formula begins with an apostrophe.
        """
        return formats.as_csv(self)

    def to_latex(self) -> str:
        """The table as a LaTeX tabular, for the package booktabs."""
        return formats.as_latex(self)

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
