"""Paired differences of a study, against what can be worked out by hand."""

import numpy as np
import pytest

from sora_det.evaluation.scores import Interval
from sora_det.evaluation.study import Difference, Scored, differences, paired_draws


def scored(seed: int, *ap50: float, noise: float = 0.0) -> Scored:
    """A run whose draws lie `noise` to either side of its scores."""
    values = np.array(ap50)
    return Scored(seed, values, values[:, None] + noise * np.array([-1.0, 1.0]))


def test_numbers() -> None:
    run = scored(0, 60, 40, 20, noise=1)
    assert run.number("source")[0] == 60
    assert run.number("target mean")[0] == 30
    assert run.number("worst target")[0] == 20
    np.testing.assert_allclose(run.number("worst target")[1], [19, 21])


def test_seeds_are_paired() -> None:
    runs = {
        "SoRA": [scored(0, 60, 40, 20), scored(1, 50, 30, 10), scored(2, 1, 1, 1)],
        "full": [scored(1, 53, 31, 11), scored(0, 63, 41, 21)],
    }
    source, mean, worst = differences(runs, "SoRA")
    # The runs of a seed differ by the same: seeds and images say nothing else.
    assert source == Difference("full", "source", 3.0, Interval(3.0, 3.0), 2, 2)
    assert (mean.mean, worst.mean) == (1.0, 1.0)
    assert str(source) == "+3.0 (+3.0 to +3.0)"


def test_what_both_share_cancels() -> None:
    one = {"a": [scored(0, 10, 10, noise=5)], "b": [scored(0, 12, 12, noise=5)]}
    assert differences(one, "a")[0].interval == Interval(2.0, 2.0)


def test_a_biased_draw_does_not_move_the_middle() -> None:
    low = Scored(0, np.array([10.0, 10.0]), np.full((2, 4), 14.0))
    base = Scored(0, np.array([8.0, 8.0]), np.full((2, 4), 8.0))
    assert differences({"a": [low], "b": [base]}, "b")[0].interval == Interval(2.0, 2.0)


def test_the_reference_without_common_seeds() -> None:
    runs = {"SoRA": [scored(0, 60, 40)], "full": [scored(1, 60, 40)]}
    assert differences(runs, "SoRA") == ()


def test_the_spread_over_seeds_is_that_of_a_mean() -> None:
    seeds = np.array([1.0, 2.0, 4.0, 5.0])
    draws = paired_draws(np.tile(seeds[:, None], (1, 200_000)))
    assert draws.mean() == pytest.approx(3.0, abs=0.02)
    # Without the factor it would be sqrt(3 / 4) of the standard error.
    assert draws.std() == pytest.approx(seeds.std(ddof=1) / 2, rel=0.01)


def test_the_spread_over_images_stays() -> None:
    images = np.random.default_rng(0).normal(0, 2, 100_000)
    draws = paired_draws(np.tile(images, (3, 1)))
    np.testing.assert_allclose(draws, images)  # all seeds alike
    np.testing.assert_allclose(paired_draws(images[None]), images)


def test_intervals_cover_what_they_should() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(300):
        truth, noise = 1.5, rng.normal(0, 2, 6)  # six seeds around the true difference
        runs = {
            "a": [scored(s, truth + e, 0) for s, e in enumerate(noise)],
            "b": [scored(s, 0, 0) for s in range(6)],
        }
        for name, members in runs.items():  # 400 draws without noise of images
            runs[name] = [
                Scored(r.seed, r.ap50, np.repeat(r.ap50[:, None], 400, axis=1)) for r in members
            ]
        ends = differences(runs, "b", seed=trial)[0].interval
        assert ends is not None
        hits += ends.low <= truth <= ends.high
    assert 0.86 <= hits / 300 <= 0.98  # few seeds: somewhat below 95 in 100
