"""From the results of a study to its summary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...evaluation.compare import compare
from ...evaluation.robustness import write_whole
from ...evaluation.study import Scored, Searched, Summary, differences
from .carry import scores, spent
from .plan import Run, choose, next_rate, search_scores
from .read import Study
from .result import REPLICATES, Result


def summarise(study: Study, found: Mapping[Run, Result]) -> Summary:
    """Return what a study has found so far.

    Raises:
        ValueError: there is no final run yet, or runs were scored by different protocols.
    """
    tables, scored = {}, {}
    for method in study.methods:
        finals = _finals(method.name, found)
        if finals:
            tables[method.name] = [r.table for r in finals if r.table is not None]
            scored[method.name] = [_scored(r) for r in finals]
    if not tables:
        raise ValueError(f"{study.name} has no final run yet: there is nothing to compare")
    pairs = differences(scored, study.reference) if study.reference in scored else ()
    return Summary(
        name=study.name,
        question=study.question,
        reference=study.reference,
        comparison=compare(tables),
        differences=pairs,
        searches=tuple(_searches(study, found)),
        facts=tuple(_facts(study, found)),
    )


def insert(file: Path, name: str, text: str) -> None:
    """Replace what stands in `file` between the comments `<!-- study NAME -->` and `<!-- end -->`.

    Raises:
        ValueError: it has no such comments.
    """
    begin, end = f"<!-- study {name} -->", "<!-- end -->"
    before, found, rest = file.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{file} has no block {begin} ... {end} to write the table into")
    write_whole(file, f"{before}{begin}\n\n{text}\n{end}{after}")


def _finals(method: str, found: Mapping[Run, Result]) -> list[Result]:
    finals = [r for r in found.values() if (r.method, r.phase) == (method, "final") and r.table]
    return sorted(finals, key=lambda result: result.seed)


def _scored(result: Result) -> Scored:
    table = result.table
    assert table is not None
    draws = {draw.domain: draw.values for draw in result.draws}
    return Scored(
        result.seed,
        np.array([score.ap50 or 0.0 for score in table.scores]),
        np.array([draws[score.domain] for score in table.scores]),
    )


def _searches(study: Study, found: Mapping[Run, Result]) -> list[Searched]:
    known, searches = scores(study, found), []
    for method in study.methods:
        rates = search_scores(study, method.name, known)
        if len(rates) >= len(study.search.grid):
            if next_rate(rates, study.search.grid, study.search.most) is None:
                one = choose(rates)
                searches.append(Searched(method.name, one.rates, one.rate, one.at_edge))
    return searches


def _facts(study: Study, found: Mapping[Run, Result]) -> list[str]:
    search = study.search
    grid = ", ".join(f"{rate:g}" for rate in search.grid)
    finals = [r for r in found.values() if r.phase == "final"]
    diverged = [str(r.run) for r in found.values() if r.diverged]
    wanted, seeds = len(study.methods) * len(study.seeds), len(search.seeds)
    machines = ", ".join(sorted({r.machine for r in found.values()}))
    dates = sorted({r.table.run.date for r in finals if r.table})
    facts = [
        f"{len(finals)} of {wanted} final runs are done, seeds {_listed(study.seeds)}, all of one "
        "budget; the last checkpoint is scored.",
        f"Learning rates: {grid} for every method and further where the best lay at the edge, at "
        f"most {search.most}; {seeds} run{'s' if seeds > 1 else ''} each (seed "
        f"{_listed(search.seeds)}) without {100 * search.held_out:g}% of the source's training "
        f"images, chosen by {search.metric} on these. No target image is looked at. Final runs "
        "train on all of them.",
        f"Intervals are 95% bootstrap intervals of paired differences over {REPLICATES} draws of "
        "seeds and test images together: runs of one seed start from the same head and see the "
        "same images in the same order. With so few seeds they are rough, and of twenty such "
        "intervals one misses by chance.",
        f"{spent(found)}; {machines}; measured {dates[0]} to {dates[-1]}.",
    ]
    if diverged:
        facts.append(f"Diverged, so 0 in a search and not in the table: {'; '.join(diverged)}.")
    return facts


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))
