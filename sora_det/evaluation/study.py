"""What a study has found: spreads over seeds, and paired differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .ap import Array
from .bootstrap import interval
from .compare import Comparison
from .formats import percent
from .layout import markdown, markdown_table
from .scores import Interval

NUMBERS = ("source", "target mean", "worst target")


@dataclass(frozen=True, eq=False)
class Scored:
    """AP50 of one run, percent; the source comes first.

    Attributes:
        seed: of the training.
        ap50: (domains,).
        draws: (domains, draws) the same for test images drawn anew, alike for all runs.
    """

    seed: int
    ap50: Array
    draws: Array

    def number(self, name: str) -> tuple[float, Array]:
        """Return one of `NUMBERS`, and the same of every draw (draws,)."""
        both = np.concatenate([self.ap50[:, None], self.draws], axis=1)
        if name == "source":
            row = both[0]
        else:
            row = both[1:].mean(axis=0) if name == "target mean" else both[1:].min(axis=0)
        return float(row[0]), row[1:]


@dataclass(frozen=True)
class Difference:
    """One number of a method minus that of the reference, in points.

    Attributes:
        method: its name.
        number: which.
        mean: over the seeds that both have.
        interval: 95%, over seeds and images; None for a single seed without draws.
        better: seeds at which the method is above the reference.
        seeds: that both have.
    """

    method: str
    number: str
    mean: float
    interval: Interval | None
    better: int
    seeds: int

    def __str__(self) -> str:
        if self.interval is None:
            return _signed(self.mean)
        low, high = _signed(self.interval.low), _signed(self.interval.high)
        return f"{_signed(self.mean)} ({low} to {high})"


@dataclass(frozen=True)
class Searched:
    """The search of a method's learning rate.

    Attributes:
        method: its name.
        rates: that were tried, each with its score on the held-out source images, percent.
        rate: the one chosen.
        at_edge: the best is the lowest or highest tried, and the limit was reached.
    """

    method: str
    rates: tuple[tuple[float, float], ...]
    rate: float
    at_edge: bool


@dataclass(frozen=True)
class Summary:
    """All that a study's table and page show.

    Attributes:
        name, question: of the study.
        reference: the method that differences are taken to.
        comparison: of the final runs.
        differences: of every other method, in the order of `NUMBERS`.
        searches: of the learning rates.
        facts: how it was done, a sentence each.
    """

    name: str
    question: str
    reference: str
    comparison: Comparison
    differences: tuple[Difference, ...]
    searches: tuple[Searched, ...]
    facts: tuple[str, ...]

    def target_means(self) -> dict[tuple[str, int | None], float]:
        """Return the mean AP50 of the targets of every final run, by method and seed."""
        return {
            (method.name, table.run.seed): value
            for method in self.comparison.methods
            for table in method.tables
            if (value := table.target_mean("ap50")) is not None
        }

    def to_markdown(self) -> str:
        """Return the table of methods, the differences, the searches and the facts."""
        head, rows = self.comparison.cells()
        parts = [markdown(self.question)] if self.question else []
        parts += [f"{markdown(self.comparison.title())}.", markdown_table(head, rows)]
        if self.differences:
            parts += [
                f"Difference to {markdown(self.reference)}, points of AP50, with its 95% interval:",
                markdown_table(*self.difference_cells()),
            ]
        parts += ["Learning rates, chosen on held-out images of the source:"]
        parts += [markdown_table(*self.search_cells())]
        parts += ["\n".join(f"- {markdown(fact)}" for fact in self.facts)]
        return "\n\n".join(parts) + "\n"

    def difference_cells(self) -> tuple[list[str], list[list[str]]]:
        """Headings and one row per method."""
        methods = dict.fromkeys(d.method for d in self.differences)
        cells = {(d.method, d.number): f"{d}, {d.better} of {d.seeds}" for d in self.differences}
        rows = [[m, *(cells.get((m, number), "-") for number in NUMBERS)] for m in methods]
        return ["method", *(f"{number}, seeds above" for number in NUMBERS)], rows

    def search_cells(self) -> tuple[list[str], list[list[str]]]:
        """Headings and one row per method."""
        rows = []
        for one in self.searches:
            tried = ", ".join(f"{rate:g}: {percent(score)}" for rate, score in one.rates)
            edge = "yes" if one.at_edge else "no"
            rows.append([one.method, f"{one.rate:g}", edge, tried])
        return ["method", "rate", "best at the edge", "tried: score of each"], rows


def differences(
    runs: Mapping[str, Sequence[Scored]], reference: str, *, seed: int = 0
) -> tuple[Difference, ...]:
    """Compare every method with the reference, over the seeds that both have.

    Args:
        runs: by method.
        reference: name of one of them.
        seed: of the bootstrap.
    """
    found = []
    base = {run.seed: run for run in runs[reference]}
    for method in (name for name in runs if name != reference):
        pairs = [(run, base[run.seed]) for run in runs[method] if run.seed in base]
        for name in NUMBERS if pairs else ():
            ours, theirs = ([pair[i].number(name) for pair in pairs] for i in (0, 1))
            points = np.array([a[0] - b[0] for a, b in zip(ours, theirs, strict=True)])
            draws = np.array([a[1] - b[1] for a, b in zip(ours, theirs, strict=True)])
            draws += (points - draws.mean(axis=1))[:, None]  # copies of images favour nobody
            ends = interval(paired_draws(draws, seed=seed)) if draws.size else None
            found.append(
                Difference(
                    method=method,
                    number=name,
                    mean=float(points.mean()),
                    interval=None if ends is None else Interval(*ends),
                    better=int((points > 0).sum()),
                    seeds=len(points),
                )
            )
    return tuple(found)


def paired_draws(draws: Array, *, seed: int = 0) -> Array:
    """Return draws of a mean difference over other seeds and other test images at once.

    Both runs of a pair share seed and images, so that what both have in common cancels. For every
    draw of images as many pairs are drawn, with replacement. The spread of so few is too small by
    sqrt((n - 1) / n), which is made good; a single pair says nothing of seeds.

    Args:
        draws: (seeds, draws) of differences.
        seed: of the bootstrap.
    """
    seeds, count = draws.shape
    centre = draws.mean(axis=0)
    if seeds == 1:
        return centre
    taken = np.random.default_rng(seed).integers(0, seeds, (seeds, count))
    spread = np.take_along_axis(draws, taken, axis=0).mean(axis=0) - centre
    return centre + math.sqrt(seeds / (seeds - 1)) * spread


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"
