"""Which runs a study needs next, given what its runs so far have found: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from .read import Study, slug

Phase = Literal["search", "final"]


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        method: its name.
        phase: "search" trains without the held-out images and is scored on them; "final" trains
            on the whole split and is scored on every domain.
        rate: learning rate.
        seed: of the training.
    """

    method: str
    phase: Phase
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """Of its files, without folder; a final run is the same whatever rate was chosen."""
        rate = f"-lr{self.rate:g}" if self.phase == "search" else ""
        return f"{slug(self.method)}-{self.phase}{rate}-seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.method}, {self.phase}, rate {self.rate:g}, seed {self.seed}"


@dataclass(frozen=True)
class Chosen:
    """What the search of a method has found.

    Attributes:
        rates: that were tried, ascending, each with its mean score on the held-out images.
        rate: the best; of equals the lowest.
        at_edge: it is the lowest or the highest, and no more were to be tried.
    """

    rates: tuple[tuple[float, float], ...]
    rate: float
    at_edge: bool


def next_rate(scores: Mapping[float, float], grid: Sequence[float], most: int) -> float | None:
    """Return the rate to try beyond the edge that the best lies at; None if the search is over.

    Args:
        scores: by rate, of every rate of the grid and of those tried beyond.
        grid: ascending; its outermost steps are gone on with.
        most: rates to try at most.
    """
    tried = sorted(scores)
    if len(tried) >= most:
        return None
    best = _best(scores)
    if best == tried[-1]:
        return _rounded(best * grid[-1] / grid[-2])
    if best == tried[0]:
        return _rounded(best * grid[0] / grid[1])
    return None


def choose(scores: Mapping[float, float]) -> Chosen:
    """Choose among the rates of a search that is over."""
    best, tried = _best(scores), sorted(scores)
    return Chosen(
        tuple((rate, scores[rate]) for rate in tried), best, best in (tried[0], tried[-1])
    )


def wanted(study: Study, found: Mapping[Run, float]) -> list[Run]:
    """Return the runs that can be made now, those already made included; searches come first.

    Args:
        study: with its methods and seeds.
        found: score of every finished run of a search, 0 for one that diverged.
    """
    searches: list[Run] = []
    chosen: dict[str, float] = {}
    for method in study.methods:
        runs, rate = _search(study, method.name, found)
        searches += runs
        if rate is not None:
            chosen[method.name] = rate
    finals = [
        Run(name, "final", rate, seed) for seed in study.seeds for name, rate in chosen.items()
    ]
    return [*searches, *finals]


def search_scores(study: Study, method: str, found: Mapping[Run, float]) -> dict[float, float]:
    """Return the mean score of every rate of a method that all its seeds have been trained at."""
    rates = {run.rate for run in found if run.method == method and run.phase == "search"}
    scores = {}
    for rate in sorted(rates):
        runs = [Run(method, "search", rate, seed) for seed in study.search.seeds]
        if all(run in found for run in runs):
            scores[rate] = fmean(found[run] for run in runs)
    return scores


def _search(
    study: Study, method: str, found: Mapping[Run, float]
) -> tuple[list[Run], float | None]:
    """Return the runs of a method's search, and the rate chosen if it is over."""
    search, rates = study.search, list(study.search.grid)
    every = search_scores(study, method, found)
    chosen = None
    while all(rate in every for rate in rates):
        scores = {rate: every[rate] for rate in rates}  # what lies beyond may be of a wider search
        further = next_rate(scores, search.grid, search.most)
        if further is None:
            chosen = _best(scores)
            break
        rates.append(further)
    return [Run(method, "search", rate, seed) for rate in rates for seed in search.seeds], chosen


def _best(scores: Mapping[float, float]) -> float:
    return max(sorted(scores), key=lambda rate: scores[rate])


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")
