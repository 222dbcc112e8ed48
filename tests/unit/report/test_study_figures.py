"""A study's figures show its numbers and can be read."""

import pytest

from sora_det.evaluation.compare import compare
from sora_det.evaluation.explained import BlockMovement, DomainDrift, Explained
from sora_det.evaluation.scores import Interval
from sora_det.evaluation.study import NUMBERS, Difference, Searched, Summary
from sora_det.report import study_figures as figures
from sora_det.report.panels import GREY
from tests.tools.figures import check_texts
from tests.tools.results import table

METHODS = ("SoRA", "MiLoRA", "LoRA", "PiSSA", "DoRA", "BitFit", "full", "frozen")
SEEDS = range(3)
SUMMARY = Summary(
    name="many_methods",
    question="",
    reference="SoRA",
    comparison=compare(
        {
            method: [table(60 + p, 40 + p + s, 20, method=method, seed=s) for s in SEEDS]
            for p, method in enumerate(METHODS)
        }
    ),
    differences=tuple(
        Difference(method, number, float(p - 4), Interval(p - 6.0, p - 1.5), 2, 3)
        for p, method in enumerate(METHODS[1:])
        for number in NUMBERS
    ),
    searches=tuple(
        Searched(method, ((1e-4, 50.0 + p), (1e-3, 60.0 + p / 10), (1e-2, 0.0)), 1e-3, False)
        for p, method in enumerate(METHODS)
    ),
    facts=(),
)


def explained(method: str, seed: int) -> Explained:
    step = 0.0 if method == "frozen" else 0.01 * (1 + METHODS.index(method) + seed / 10)
    drifts = tuple(
        DomainDrift(domain, tuple(1 - step * block for block in range(6)))
        for domain in ("clear", "fog", "night")
    )
    share = 0.5 if step else None
    return Explained(
        method, seed, "", 50, drifts, (BlockMovement(3, step, share, share, share),) * 6
    )


EXPLAINED = [explained(method, seed) for method in METHODS for seed in SEEDS]
ALL = figures.study_figures(SUMMARY, EXPLAINED)


@pytest.mark.parametrize("name", ALL)
def test_every_text_can_be_read(name: str) -> None:
    check_texts(ALL[name])


def test_without_an_explanation_the_scores_are_drawn() -> None:
    assert set(ALL) == {"differences", "rates", "drift", "movement", "drift_and_score"}
    assert set(figures.study_figures(SUMMARY, ())) == {"differences", "rates"}


def test_differences_stand_at_their_place() -> None:
    axis = ALL["differences"].axes[0]
    points = {line.get_ydata()[0]: line for line in axis.get_lines() if line.get_marker() == "o"}
    assert [points[row].get_xdata()[0] for row in range(7)] == [-4, -3, -2, -1, 0, 1, 2]
    assert [label.get_text() for label in axis.get_yticklabels()] == list(METHODS[1:])
    # Only intervals that leave 0 out have a colour: p - 6 to p - 1.5, p from 0.
    assert [points[row].get_color() == GREY for row in range(7)] == [False, False, *[True] * 5]


def test_what_has_not_moved_has_no_direction() -> None:
    _, minor, _ = ALL["movement"].axes
    assert len(minor.get_lines()) == len(METHODS) - 1
    drift = ALL["drift"].axes[0]
    assert drift.get_ylim()[1] == 1


def test_every_run_has_its_mark() -> None:
    scatter = ALL["drift_and_score"].axes[0]
    xs = [len(line.get_xdata()) for line in scatter.get_lines()]
    assert xs == [len(SEEDS)] * len(METHODS)
    means = [(40 + s + 20) / 2 for s in SEEDS]
    assert list(scatter.get_lines()[0].get_ydata()) == pytest.approx(means)
