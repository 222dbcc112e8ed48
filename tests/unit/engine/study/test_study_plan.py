from dataclasses import replace
from pathlib import Path

import pytest

from sora_det.engine.study.plan import Chosen, Run, choose, next_rate, wanted
from sora_det.engine.study.read import Study, read_study
from tests.tools.study_text import STUDY

GRID = (1e-4, 3e-4, 1e-3)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    return read_study(file)


@pytest.mark.parametrize(
    ("scores", "most", "rate"),
    [
        ((1, 3, 2), 5, None),  # inside
        ((1, 2, 3), 5, 3.3e-3),  # one more step, as wide as the last
        ((3, 2, 1), 5, 3.3e-5),
        ((1, 2, 3), 3, None),  # the limit
        ((2, 2, 1), 5, 3.3e-5),  # of equals the lowest
        ((0, 0, 0), 5, 3.3e-5),  # all diverged
    ],
)
def test_further_rates(scores: tuple[float, ...], most: int, rate: float | None) -> None:
    assert next_rate(dict(zip(GRID, scores, strict=True)), GRID, most) == rate


def test_it_goes_on_until_the_best_lies_inside() -> None:
    scores = dict(zip(GRID, (1.0, 2.0, 3.0), strict=True))
    tried = []
    while (rate := next_rate(scores, GRID, 8)) is not None:
        tried.append(rate)
        scores[rate] = {3.3e-3: 4.0, 1.1e-2: 3.5}[rate]
    assert tried == [3.3e-3, 1.1e-2]
    assert choose(scores).rate == 3.3e-3
    assert not choose(scores).at_edge


def test_a_limit_that_was_reached_is_told() -> None:
    scores = dict(zip(GRID, (1.0, 2.0, 3.0), strict=True))
    assert choose(scores) == Chosen(((1e-4, 1.0), (3e-4, 2.0), (1e-3, 3.0)), 1e-3, True)


def test_searches_come_first_and_final_runs_wait_for_theirs(study: Study) -> None:
    first = wanted(study, {})
    assert [(r.method, r.phase, r.rate, r.seed) for r in first] == [
        (method, "search", rate, 9) for method in ("SoRA", "frozen") for rate in GRID
    ]
    found = {run: score for run, score in zip(first[:3], (1.0, 3.0, 2.0), strict=True)}
    later = wanted(study, found)
    assert later[:6] == first
    assert later[6:] == [Run("SoRA", "final", 3e-4, seed) for seed in (0, 1)]


def test_the_search_goes_beyond_the_grid(study: Study) -> None:
    sora = [Run("SoRA", "search", rate, 9) for rate in GRID]
    found = dict(zip(sora, (1.0, 2.0, 3.0), strict=True))
    beyond = Run("SoRA", "search", 3.3e-3, 9)
    assert beyond in wanted(study, found)
    assert not any(run.phase == "final" for run in wanted(study, found))
    found[beyond] = 2.5
    finals = [run for run in wanted(study, found) if run.phase == "final"]
    assert {run.rate for run in finals} == {1e-3}


def test_seeds_of_a_search_are_averaged(study: Study) -> None:
    study = replace(study, search=replace(study.search, seeds=(8, 9)))
    rows = {1e-4: (1.0, 1.0), 3e-4: (4.0, 0.0), 1e-3: (2.5, 2.5)}
    found = {
        Run("SoRA", "search", rate, seed): score
        for rate, both in rows.items()
        for seed, score in zip((8, 9), both, strict=True)
    }
    found |= {Run("SoRA", "search", 3.3e-3, seed): 0.0 for seed in (8, 9)}
    finals = [run for run in wanted(study, found) if run.phase == "final"]
    assert {run.rate for run in finals} == {1e-3}
    del found[Run("SoRA", "search", 1e-4, 8)]  # a seed is missing
    assert not [run for run in wanted(study, found) if run.phase == "final"]


def test_names_of_files() -> None:
    assert Run("from block 0", "search", 3e-4, 9).name == "from_block_0-search-lr0.0003-seed9"
    assert Run("SoRA", "final", 3e-4, 1).name == "SoRA-final-seed1"
