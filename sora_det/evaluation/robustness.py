"""The result of a robustness run: scores under corruptions, and their means P, mPC and rPC.

Plain data, written as JSON and read back. P is a score on clean images; mPC (mean performance under
corruption) its mean over severities, then over corruptions; rPC (relative) is mPC / P. They are
those of Michaelis et al., "Benchmarking Robustness in Object Detection", arXiv 1907.07484.
"""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ..untrusted.text import shown
from .formats import bullets, percent
from .layout import markdown, markdown_table, text_table
from .protocol import Protocol, RunInfo
from .scores import NOTHING
from .strict_json import decode, parse

FORMAT = "sora_det.robustness"
VERSION = 1

Metric = Literal["coco_ap", "ap50"]
METRICS: tuple[Metric, ...] = get_args(Metric)
TITLES: dict[Metric, str] = {"coco_ap": "COCO AP", "ap50": "AP50 (VOC)"}
_FULL = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Cell:
    """One domain under one corruption.

    Attributes:
        domain: its name in the benchmark.
        corruption: its name, "" for clean images.
        severity: 1 to 5, 0 for clean images.
        images: number of images evaluated, all of the split.
        boxes: counted ground-truth boxes.
        coco_ap, ap50: percent, None without ground truth.
        seconds: that it took.
    """

    domain: str
    corruption: str
    severity: int
    images: int
    boxes: int
    coco_ap: float | None
    ap50: float | None
    seconds: float


@dataclass(frozen=True)
class Settings:
    """What decides the pixels, beside the images.

    Attributes:
        version: of the corruptions.
        seed: of what they draw; image, corruption and severity decide the rest.
        frost: "drawn", or the SHA-256 of the textures that were given.
        numpy, opencv, pillow: versions.
    """

    version: int
    seed: int
    frost: str
    numpy: str
    opencv: str
    pillow: str


@dataclass(frozen=True)
class RobustnessTable:
    """Scores of one model on domains of one benchmark, clean and under corruptions.

    Attributes:
        benchmark: its name.
        protocol: how the scores were made; `splits` lists the domains in their order.
        settings: how the images were corrupted.
        common, extra: the corruptions, of the benchmark's fifteen and beside them. The means are
            over `common`, or over `extra` where there are none.
        severities: of every corruption.
        cells: one for every domain clean, and one for each of its corruptions and severities.
        run: what was scored.

    Raises:
        ValueError: a cell is missing, twice there, or none of those asked for.
    """

    benchmark: str
    protocol: Protocol
    settings: Settings
    common: tuple[str, ...]
    extra: tuple[str, ...]
    severities: tuple[int, ...]
    cells: tuple[Cell, ...]
    run: RunInfo = field(default_factory=RunInfo)

    def __post_init__(self) -> None:
        if not self.corruptions or not self.severities or not self.protocol.splits:
            raise ValueError("a robustness table needs a domain, a corruption and a severity")
        wanted = expected(self.domains, self.corruptions, self.severities)
        given = [(c.domain, c.corruption, c.severity) for c in self.cells]
        if sorted(given) != sorted(wanted):
            odd = sorted({*given} ^ {*wanted}) or sorted({c for c in given if given.count(c) > 1})
            raise ValueError(
                f"every cell must be there once; missing, unknown or twice: {reprlib.repr(odd)}"
            )

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(split.domain for split in self.protocol.splits)

    @property
    def corruptions(self) -> tuple[str, ...]:
        return (*self.common, *self.extra)

    def score(
        self, domain: str, corruption: str = "", severity: int = 0, metric: Metric = "coco_ap"
    ) -> float | None:
        """Percent; without a corruption, P.

        Raises:
            KeyError: there is no such cell.
        """
        for cell in self.cells:
            if (cell.domain, cell.corruption, cell.severity) == (domain, corruption, severity):
                value: float | None = getattr(cell, metric)
                return value
        raise KeyError(f"no cell {domain!r}, {corruption!r}, {severity}")

    def corruption_mean(
        self, domain: str, corruption: str, metric: Metric = "coco_ap"
    ) -> float | None:
        """Mean over the severities in percent, None if one has no score."""
        return _mean(self.score(domain, corruption, s, metric) for s in self.severities)

    def mpc(self, domain: str, metric: Metric = "coco_ap") -> float | None:
        """Mean performance under corruption in percent."""
        counted = self.common or self.extra
        return _mean(self.corruption_mean(domain, name, metric) for name in counted)

    def rpc(self, domain: str, metric: Metric = "coco_ap") -> float | None:
        """Relative performance under corruption, a fraction; None where P is 0 or missing."""
        clean, corrupted = self.score(domain, metric=metric), self.mpc(domain, metric)
        if clean is None or clean < NOTHING or corrupted is None:
            return None
        return corrupted / clean

    def notes(self) -> tuple[str, ...]:
        """What a reader must know beside the numbers, one sentence each."""
        notes = []
        if len(self.common) < 15 or self.severities != _FULL:
            notes.append(
                f"The means are over {len(self.common or self.extra)} corruptions and severities "
                f"{', '.join(map(str, self.severities))}: the benchmark's are over its 15 and 1 to "
                "5, and do not compare with these."
            )
        if self.common and self.extra:
            notes.append(f"mPC and rPC leave out the extra corruptions {', '.join(self.extra)}.")
        if "frost" in self.common and self.settings.frost == "drawn":
            notes.append("Frost is drawn, where the benchmark has photographs.")
        if self.run.random_init:
            notes.append("The backbone started from random numbers, not from pretrained weights.")
        for domain in self.domains:
            clean = {m: self.score(domain, metric=m) for m in METRICS}
            zero = [
                TITLES[m] for m, score in clean.items() if score is not None and score < NOTHING
            ]
            if zero:
                notes.append(f"{domain} has no rPC of {' and '.join(zero)}: 0 on clean images.")
        return tuple(notes)

    def rows(self, domain: str, metric: Metric) -> tuple[list[str], list[list[str]], Any]:
        """Headings, a row for every corruption, and the rows below the line."""
        head = ["corruption", *map(str, self.severities), "mean"]
        rows = []
        for name in self.corruptions:
            scores = [self.score(domain, name, s, metric) for s in self.severities]
            mean = self.corruption_mean(domain, name, metric)
            shown = f"{name} (extra)" if name in self.extra and self.common else name
            rows.append([shown, *map(percent, [*scores, mean])])
        blank = [""] * len(self.severities)
        ratio = self.rpc(domain, metric)
        below = [
            ["clean, P", *blank, percent(self.score(domain, metric=metric))],
            ["corrupted, mPC", *blank, percent(self.mpc(domain, metric))],
            ["mPC / P, rPC (%)", *blank, percent(None if ratio is None else 100 * ratio)],
        ]
        return head, rows, below

    def title(self, domain: str, metric: Metric) -> str:
        """One line that says what the numbers are."""
        split = next(split for split in self.protocol.splits if split.domain == domain)
        return (
            f"{self.benchmark}, {domain}: {TITLES[metric]} in percent under corruptions of "
            f"severity {', '.join(map(str, self.severities))} ({split.images} images, "
            f"{split.boxes} boxes, seed {self.settings.seed})"
        )

    def to_text(self) -> str:
        """The tables for a terminal, with titles and notes."""
        parts = []
        for domain in self.domains:
            for metric in METRICS:
                title = shown(self.title(domain, metric))
                parts += [title, text_table(*self.rows(domain, metric)), ""]
        return "\n".join([*parts, *map(shown, self.notes())]).rstrip() + "\n"

    def to_markdown(self) -> str:
        """The tables, notes, settings, protocol and run, as Markdown."""
        lines = [f"# Robustness on {markdown(self.benchmark)}", ""]
        for domain in self.domains:
            lines += [f"## {markdown(domain)}", ""]
            for metric in METRICS:
                lines += [markdown(self.title(domain, metric)) + ".", ""]
                lines += [markdown_table(*self.rows(domain, metric)), ""]
        notes = self.notes()
        lines += [f"- {markdown(note)}" for note in notes] + ([""] if notes else [])
        protocol = asdict(self.protocol)
        splits = protocol.pop("splits")
        lines += ["## Corruptions", "", *bullets(asdict(self.settings)), ""]
        lines += ["## Protocol", "", *bullets(protocol), ""]
        heads = ["domain", "dataset", "split file", "SHA-256", "images", "boxes", "ignored"]
        keys = ["domain", "dataset", "file", "sha256", "images", "boxes", "ignored"]
        rows = [[str(s[key])[: 12 if key == "sha256" else None] for key in keys] for s in splits]
        lines += [markdown_table(heads, rows), "", "## Run", "", *bullets(asdict(self.run))]
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        """A versioned JSON document; `from_json` gives an equal table."""
        summary = {
            domain: {
                metric: {
                    "clean": self.score(domain, metric=metric),
                    "mpc": self.mpc(domain, metric),
                    "rpc": self.rpc(domain, metric),
                    "corruptions": {
                        name: self.corruption_mean(domain, name, metric)
                        for name in self.corruptions
                    },
                }
                for metric in METRICS
            }
            for domain in self.domains
        }
        document = {"format": FORMAT, "version": VERSION, "summary": summary}
        document |= {"notes": self.notes(), **asdict(self)}
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> RobustnessTable:
        """Read what `to_json` wrote; the summary and the notes are derived afresh.

        Raises:
            ValueError: not JSON, another format or version, or a missing, unknown or ill-typed
                entry, named by its path in the document.
        """
        document = read_document(text, FORMAT, VERSION)
        derived = ("summary", "notes")
        kept = {key: value for key, value in document.items() if key not in derived}
        table: RobustnessTable = decode(cls, kept, "robustness")
        return table

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write `robustness.json` and `robustness.md`, each whole or not at all."""
        paths = Path(folder) / "robustness.json", Path(folder) / "robustness.md"
        for path, text in zip(paths, (self.to_json(), self.to_markdown()), strict=True):
            write_whole(path, text)
        return paths


def expected(
    domains: Sequence[str], corruptions: Sequence[str], severities: Sequence[int]
) -> list[tuple[str, str, int]]:
    """Domain, corruption and severity of every cell, all clean ones first."""
    clean = [(domain, "", 0) for domain in domains]
    return clean + [(d, name, s) for d in domains for name in corruptions for s in severities]


def read_document(text: str, form: str, version: int) -> dict[str, Any]:
    """Parse a JSON object of a format; its entries `format` and `version` are taken off.

    Raises:
        ValueError: not JSON, or another format or version.
    """
    document = parse(text)
    if not isinstance(document, dict) or document.pop("format", None) != form:
        raise ValueError(f"must be a JSON object with format {form!r}")
    if (found := document.pop("version", None)) != version:
        raise ValueError(f"version must be {version}, got {reprlib.repr(found)}")
    return document


def write_whole(path: Path, text: str) -> None:
    """Write beside `path`, then rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean, None if there are no values or one of them is missing."""
    known = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return sum(known) / len(known) if known else None
