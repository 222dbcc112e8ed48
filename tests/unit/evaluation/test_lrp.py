import numpy as np
import pytest

from sora_det.evaluation import Detections, GroundTruth, match
from sora_det.evaluation.lrp import OptimalLRP, optimal_lrp


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, dtype=float).reshape(-1, 4)


def one_class(scores: list[float], box: np.ndarray, truth: np.ndarray, classes: int = 1) -> tuple:
    found = Detections(
        np.zeros(len(scores), int), np.zeros(len(scores), int), np.array(scores), box
    )
    wanted = GroundTruth(
        np.zeros(len(truth), int), np.zeros(len(truth), int), truth, np.zeros(len(truth), bool)
    )
    return optimal_lrp(match(found, wanted, num_classes=classes))


def test_by_hand() -> None:
    """Two boxes; one found exactly, one at IoU 0.8; then a wrong detection."""
    truth = boxes((0, 0, 10, 10), (20, 0, 30, 10))
    found = boxes((0, 0, 10, 10), (20, 0, 28, 10), (50, 50, 60, 60))
    (best,) = one_class([0.9, 0.8, 0.7], found, truth)
    # Threshold 0.8: (0 + 0.2 / 0.5) / 2; at 0.9 it is (0 + 1) / 2, at 0.7 (0.4 + 1) / 3.
    assert best == OptimalLRP(pytest.approx(0.2), pytest.approx(0.1), 0.0, 0.0, 0.8)


def test_a_wrong_detection_before_the_right_one() -> None:
    truth = boxes((0, 0, 10, 10))
    found = boxes((50, 50, 60, 60), (0, 0, 10, 10))
    (best,) = one_class([0.9, 0.5], found, truth)
    assert best == OptimalLRP(0.5, 0.0, 0.5, 0.0, 0.5)


def test_equal_scores_stand_together() -> None:
    truth = boxes((0, 0, 10, 10))
    found = boxes((0, 0, 10, 10), (50, 50, 60, 60))
    (best,) = one_class([0.5, 0.5], found, truth)
    assert best is not None
    assert best.error == 0.5


def test_nothing_found_or_nothing_to_find() -> None:
    truth = boxes((0, 0, 10, 10))
    assert one_class([], boxes(), truth, classes=2) == (
        OptimalLRP(1.0, None, None, 1.0, None),
        None,
    )
    (wrong,) = one_class([0.9], boxes((50, 50, 60, 60)), truth)
    assert wrong == OptimalLRP(1.0, None, None, 1.0, None)
    with pytest.raises(ValueError, match="iou must be below 1"):
        optimal_lrp(match(*_empty(), num_classes=1), iou=1.0)


def _empty() -> tuple[Detections, GroundTruth]:
    none = np.zeros(0, dtype=int)
    return Detections(none, none, np.zeros(0), boxes()), GroundTruth(
        none, none, boxes(), none.astype(bool)
    )


def test_against_every_threshold_in_turn() -> None:
    draw = np.random.default_rng(0)
    corner = draw.integers(0, 200, (40, 2))
    truth = np.hstack([corner, corner + 20]).astype(float)
    rows = draw.integers(0, 40, 90)
    found = truth[rows] + draw.normal(0, 4, (90, 4))
    scores = np.round(draw.random(90), 2)
    ignore = draw.random(40) < 0.2
    wanted = GroundTruth(np.zeros(40, int), np.zeros(40, int), truth, ignore)
    given = Detections(np.zeros(90, int), np.zeros(90, int), scores, found)
    (best,) = optimal_lrp(match(given, wanted, num_classes=1))
    errors = []
    for threshold in np.unique(scores):
        kept = scores >= threshold
        part = Detections(given.image[kept], given.label[kept], scores[kept], found[kept])
        errors.append(_error(part, wanted))
    assert best is not None
    assert best.error == pytest.approx(min(errors))


def _error(found: Detections, truth: GroundTruth) -> float:
    """Match by loops, best score first."""
    taken: set[int] = set()
    lost = false = 0.0
    for row in np.argsort(-found.score, kind="stable"):
        overlaps = [_iou(found.box[row], box) for box in truth.box]
        best = int(np.argmax(overlaps))
        if overlaps[best] < 0.5:
            false += 1
        elif truth.ignore[best]:
            continue
        elif best in taken:
            false += 1
        else:
            taken.add(best)
            lost += (1 - overlaps[best]) / 0.5
    total = int((~truth.ignore).sum())
    return (lost + false + total - len(taken)) / (total + false)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - shared)
