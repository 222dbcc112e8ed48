import numpy as np
import pytest

from sora_det.evaluation import Detections, GroundTruth, Matches, match
from sora_det.evaluation.calibration import Bin, calibration_error, reliability

BOX = (0.0, 0.0, 10.0, 10.0)
AWAY = (50.0, 50.0, 60.0, 60.0)


def matches(scores: list[float], right: list[bool], ignored: int = 0) -> Matches:
    """One image per detection, with one box that it finds or not; the first ones are ignored."""
    count = len(scores)
    box = np.array([BOX if hit else AWAY for hit in right], dtype=float).reshape(-1, 4)
    truth = GroundTruth(
        np.arange(count),
        np.zeros(count, int),
        np.array([BOX] * count, dtype=float).reshape(-1, 4),
        np.arange(count) < ignored,
    )
    return match(
        Detections(np.arange(count), np.zeros(count, int), np.array(scores), box),
        truth,
        num_classes=1,
    )


def test_by_hand() -> None:
    found = matches([0.95, 0.91, 0.15, 0.12, 0.11], [True, False, True, False, False])
    bins = reliability(found)
    assert bins[9] == Bin(2, pytest.approx(0.93), 0.5)
    assert bins[1] == Bin(3, pytest.approx(0.38 / 3), pytest.approx(1 / 3))
    assert bins[5] == Bin(0, None, None)
    error = (2 * abs(0.5 - 0.93) + 3 * abs(1 / 3 - 0.38 / 3)) / 5
    assert calibration_error(found) == pytest.approx(error)


def test_ends_of_the_bins() -> None:
    bins = reliability(matches([0.0, 0.1, 0.100001, 1.0], [True] * 4))
    assert [b.count for b in bins] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]


def test_sure_and_right_is_calibrated() -> None:
    assert calibration_error(matches([1.0, 1.0, 0.0], [True, True, False])) == 0.0
    assert calibration_error(matches([1.0, 1.0], [False, False])) == 1.0


def test_low_scores_and_ignored_boxes_are_left_out() -> None:
    found = matches([0.9, 0.8, 0.1], [True, True, False], ignored=1)
    assert sum(b.count for b in reliability(found)) == 2
    assert calibration_error(found, min_score=0.3) == pytest.approx(0.2)


def test_without_detections() -> None:
    assert calibration_error(matches([], [])) is None


def test_scores_that_are_no_probabilities() -> None:
    with pytest.raises(ValueError, match=r"scores must be 0\.\.1 .* got up to 1\.5"):
        calibration_error(matches([1.5], [True]))
    with pytest.raises(ValueError, match="bins must be at least 1"):
        reliability(matches([0.5], [True]), bins=0)


@pytest.mark.parametrize("seed", range(3))
def test_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.choice(101, 60, replace=False) / 100
    right = rng.random(60) < scores
    found = matches(scores.tolist(), right.tolist())
    gaps = []
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = [i for i, s in enumerate(scores) if low < s <= low + 0.25 and s >= 0.1]
        gaps.append(abs(sum(right[i] - scores[i] for i in inside)))
    count = sum(s >= 0.1 for s in scores)
    error = calibration_error(found, bins=4, min_score=0.1)
    assert error == pytest.approx(sum(gaps) / count)
