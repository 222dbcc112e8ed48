"""Finished runs on disk: one small JSON file each, which a repository can keep."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...evaluation import DomainTable
from ...evaluation.compare import read_results
from ...evaluation.robustness import read_document, write_whole
from ...evaluation.saved import read_domains
from ...evaluation.scoring import Extras, score_domain
from ...evaluation.strict_json import decode
from .configure import Key
from .plan import Phase, Run

FORMAT = "sora_det.study_run"
VERSION = 1
REPLICATES = 500  # of the images of every domain


@dataclass(frozen=True)
class Draws:
    """AP50 of one domain when its images are drawn anew, percent.

    Attributes:
        domain: its name.
        ap50: numbers with a space between them.
    """

    domain: str
    ap50: str

    @property
    def values(self) -> np.ndarray:
        return np.array([float(value) for value in self.ap50.split()])


@dataclass(frozen=True)
class Result:
    """One finished run.

    Attributes:
        study, method, phase, rate, seed: which run.
        key: what it has trained.
        seconds: from start to end, None where it was interrupted.
        cpu_seconds: of all its threads and processes, None where unknown.
        threads: that it could use.
        machine: what it ran on.
        diverged: it found no finite numbers any more; nothing is scored then.
        table: its scores.
        draws: of the domains of a final run.
        borrowed_from: "study/run" that has made it, if this study has not.
    """

    study: str
    method: str
    phase: Phase
    rate: float
    seed: int
    key: Key
    seconds: float | None
    cpu_seconds: float | None
    threads: int
    machine: str
    diverged: bool
    table: DomainTable | None
    draws: tuple[Draws, ...] = ()
    borrowed_from: str = ""

    @property
    def run(self) -> Run:
        return Run(self.method, self.phase, self.rate, self.seed)

    def score(self, metric: str) -> float:
        """Return the source's score, of the held-out images in a search; 0 if it diverged."""
        if self.table is None:
            return 0.0
        return getattr(self.table.scores[0], metric) or 0.0


def harvest(
    study: str,
    run: Run,
    key: Key,
    folder: Path,
    *,
    seconds: float | None,
    cpu_seconds: float | None,
    threads: int,
    diverged: bool,
) -> Result:
    """Make the result of a run that has ended in `folder`."""
    return Result(
        study=study,
        method=run.method,
        phase=run.phase,
        rate=run.rate,
        seed=run.seed,
        key=key,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        threads=threads,
        machine=f"{platform.machine()}, {os.cpu_count()} processors",
        diverged=diverged,
        table=None if diverged else read_results(folder),
        draws=() if diverged or run.phase == "search" else _draws(folder),
    )


def _draws(folder: Path) -> tuple[Draws, ...]:
    found = []
    for data in read_domains(folder):
        values = score_domain(data, extras=Extras(replicates=REPLICATES)).replicates
        found.append(Draws(data.domain, " ".join(f"{value:.2f}" for value in values)))
    return tuple(found)


def write_result(file: Path, result: Result) -> None:
    """Write a result, whole or not at all."""
    document = {"format": FORMAT, "version": VERSION, **asdict(result)}
    write_whole(file, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_result(file: Path) -> Result:
    """Read what `write_result` wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file; it is named.
    """
    try:
        document = read_document(file.read_text(encoding="utf-8"), FORMAT, VERSION)
        result: Result = decode(Result, document, "result")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no result of a study, delete it: {error}") from error
    return result
