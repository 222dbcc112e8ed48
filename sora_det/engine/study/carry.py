"""Carry a study out: start what is left, keep what has ended, and say how long the rest takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean

from ...evaluation.compare import RESULTS
from ..stop import DIVERGED, STOPPED, stop_signals
from .configure import Configs, Key
from .jobs import Job, Starter, last_words, wait_a_little
from .plan import Run, wanted
from .read import Study
from .result import Result, harvest, read_result, write_result
from .share import borrowed

logger = logging.getLogger(__name__)


class Kept:
    """The results of a study in its folder.

    Args:
        study: whose.
        configs: of its runs.
        folder: of the files, one per run.
        redo: pass over results of something else, to be replaced.
        threads: of every run, for the CPU time ahead.
    """

    def __init__(
        self, study: Study, configs: Configs, folder: Path, *, redo: bool, threads: int = 1
    ) -> None:
        self.study, self.configs, self.folder, self.redo = study, configs, folder, redo
        self.threads = threads
        self.found: dict[Run, Result] = {}
        self.others: dict[Run, str] = {}  # what is different in files to be replaced

    def file(self, run: Run) -> Path:
        return self.folder / f"{run.name}.json"

    def left(self) -> list[Run]:
        """Read what has come to be there and return the runs that can be made now.

        Raises:
            ValueError: results are of something else, without `redo`.
        """
        while True:  # what a search has found says which files to look for next
            runs = wanted(self.study, scores(self.study, self.found))
            new = [run for run in runs if run not in self.found and self._read(run)]
            if not new:
                break
        if self.others and not self.redo:
            run, what = next(iter(self.others.items()))
            raise ValueError(
                f"{len(self.others)} results in {self.folder} are of something else, such as "
                f"{self.file(run).name} (different: {what}). Give another --results, or --redo to "
                "replace them"
            )
        return [run for run in runs if run not in self.found]

    def borrow(self) -> list[Result]:
        """Find what other studies have made; it counts as found, and is returned to be kept."""
        results: list[Result] = []
        while True:  # as in `left`
            new = [result for run in self.left() if (result := self.borrowed(run)) is not None]
            if not new:
                return results
            self.found |= {result.run: result for result in new}
            results += new

    def borrowed(self, run: Run) -> Result | None:
        key = self.configs.key(run)
        return borrowed(run, key, study=self.study.name, folder=self.folder)

    def keep(self, result: Result) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_result(self.file(result.run), result)
        self.found[result.run] = result

    def _read(self, run: Run) -> bool:
        file = self.file(run)
        if run in self.others or not file.is_file():
            return False
        result, key = read_result(file), self.configs.key(run)
        if result.key != key:
            self.others[run] = _different(result.key, key)
            return False
        self.found[run] = result
        return True


def scores(study: Study, found: Mapping[Run, Result]) -> dict[Run, float]:
    """Return what the finished runs of the searches have scored on the held-out images."""
    metric = study.search.metric
    return {run: result.score(metric) for run, result in found.items() if run.phase == "search"}


def carry_out(kept: Kept, *, start: Starter, at_once: int) -> dict[Run, Result]:
    """Make all runs that are not there, several at once.

    Args:
        kept: results so far; every new one is written at once.
        start: how a run is started.
        at_once: runs at a time.

    Returns:
        All results.

    Raises:
        ValueError: results are of something else.
        RuntimeError: runs failed; all others that do not wait for them were made.
        SystemExit: this process was asked to stop; the runs have written checkpoints.
    """
    for result in kept.borrow():
        kept.keep(result)
    logger.info(forecast(kept, kept.left(), at_once=at_once))
    carrying = _Carrying(kept, start, at_once)
    asked: list[int] = []
    with stop_signals(lambda number, _: asked.append(number)):
        while carrying.turn(stop=bool(asked)):
            wait_a_little()
    if asked:
        raise SystemExit(STOPPED)
    if carrying.failed:
        run, why = next(iter(carrying.failed.items()))
        raise RuntimeError(f"{len(carrying.failed)} runs failed, such as {run}: {why}")
    return kept.found


@dataclass(frozen=True)
class _Started:
    job: Job
    begun: float
    whole: bool  # it was not begun earlier


class _Carrying:
    """The runs under way."""

    def __init__(self, kept: Kept, start: Starter, at_once: int) -> None:
        self.kept, self.start, self.at_once = kept, start, at_once
        self.running: dict[Run, _Started] = {}
        self.failed: dict[Run, str] = {}
        self.stopping = False

    def turn(self, *, stop: bool) -> bool:
        """Look after the runs once, and start some unless all are to `stop`; False at the end."""
        for run in list(self.running):
            if stop and not self.stopping:
                self.running[run].job.stop()
            self._look(run, stop)
        self.stopping = stop
        left = [run for run in self.kept.left() if run not in self.failed]
        for run in () if stop else left:
            if len(self.running) < self.at_once and run not in self.running:
                self._begin(run)
        return bool(self.running) or (bool(left) and not stop)

    def _begin(self, run: Run) -> None:
        """Start a run, or take what it has left when nobody was there to see it end."""
        if (result := self.kept.borrowed(run)) is not None:  # made in the meantime
            self.kept.keep(result)
            return
        folder = self.kept.configs.folder(run)
        if (folder / RESULTS).is_file():
            self._keep(run)
            return
        config = self.kept.configs.write(run)
        whole = not (folder / "metrics.json").exists()
        job = self.start(["--resume", "--config-file", str(config)], folder)
        if job is not None:  # else another process is at it: look again later
            self.running[run] = _Started(job, time.monotonic(), whole)

    def _look(self, run: Run, stop: bool) -> None:
        """Keep the result of a run if it has ended."""
        ended = self.running[run].job.ended()
        if ended is None:
            return
        one = self.running.pop(run)
        seconds = round(time.monotonic() - one.begun, 1) if one.whole else None
        if ended.code in (0, DIVERGED):
            cpu = ended.cpu_seconds if one.whole else None
            self._keep(run, seconds, cpu, diverged=ended.code == DIVERGED)
        elif not stop:
            folder = self.kept.configs.folder(run)
            words = f"exit code {ended.code}, {last_words(folder)} (see {folder})"
            self.failed[run] = words
            logger.error("%s: %s", run, words)

    def _keep(
        self,
        run: Run,
        seconds: float | None = None,
        cpu_seconds: float | None = None,
        *,
        diverged: bool = False,
    ) -> None:
        kept = self.kept
        folder = kept.configs.folder(run)
        result = harvest(
            kept.study.name,
            run,
            kept.configs.key(run),
            folder,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            threads=self.start.threads,
            diverged=diverged,
        )
        kept.keep(result)
        if run.phase == "search":
            for file in folder.glob("model_*"):  # nobody will go on from it
                file.unlink()
        shown = "diverged" if diverged else f"source {result.score('ap50'):.1f} AP50"
        took = "" if seconds is None else f", {seconds:.0f} s"
        left = time_left(kept, kept.left(), at_once=self.at_once)
        logger.info("%s: %s%s; %d done%s", run, shown, took, len(kept.found), left)


def forecast(kept: Kept, left: list[Run], *, at_once: int) -> str:
    """Say what is left and how long it will take, after the runs that are done."""
    searches, finals = _counts(kept, left)
    done = f"{kept.study.name}: {len(kept.found)} runs are done"
    if not searches and not finals:
        return f"{done}, none is left; {spent(kept.found)}"
    more = " or more" if searches else ""
    time = time_left(kept, left, at_once=at_once)
    time = time or "; how long they take is known when the first has ended"
    return f"{done}, {searches}{more} of searches and {finals} final ones are left{time}"


def time_left(kept: Kept, left: list[Run], *, at_once: int) -> str:
    """Return the time that the runs left will take in words, "" if none has been timed."""
    searches, finals = _counts(kept, left)
    known = {
        phase: [
            r.seconds for r in kept.found.values() if r.phase == phase and r.seconds is not None
        ]
        for phase in ("search", "final")
    }
    some = known["search"] or known["final"]
    if not some or not searches + finals:
        return ""
    seconds = searches * fmean(known["search"] or some) + finals * fmean(known["final"] or some)
    hours = seconds * kept.threads / 3600
    return (
        f"; about {seconds / at_once / 60:.0f} min left with {at_once} at a time, "
        f"{hours:.1f} CPU-hours"
    )


def _counts(kept: Kept, left: list[Run]) -> tuple[int, int]:
    """Return how many runs are left, of searches as far as known and final ones."""
    done = sum(run.phase == "final" for run in kept.found)
    searches = sum(run.phase == "search" for run in left)
    return searches, len(kept.study.methods) * len(kept.study.seeds) - done


def spent(found: Mapping[Run, Result]) -> str:
    """Return the CPU time of all runs in words."""
    own = [r.cpu_seconds for r in found.values() if not r.borrowed_from]
    known = [seconds for seconds in own if seconds is not None]
    if not known:
        return "no CPU time is known"
    unknown, others = len(own) - len(known), len(found) - len(own)
    more = f", those of {unknown} runs unknown" if unknown else ""
    more += f", {others} runs taken from other studies" if others else ""
    return f"{sum(known) / 3600:.2f} CPU-hours spent{more}"


def _different(one: Key, two: Key) -> str:
    names = [f.name for f in fields(Key) if getattr(one, f.name) != getattr(two, f.name)]
    return ", ".join(names)
