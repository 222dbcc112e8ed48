import numpy as np
import pytest

from sora_det.evaluation import Detections, GroundTruth
from sora_det.evaluation.coco import CocoScores, coco_ap, coco_scores

Box = tuple[float, float, float, float]
BOX: Box = (0.0, 0.0, 10.0, 10.0)
AWAY: Box = (50.0, 50.0, 60.0, 60.0)


def found(*rows: tuple[float, Box]) -> Detections:
    """Detections of one image and class from (score, box)."""
    return Detections(
        image=np.zeros(len(rows), dtype=int),
        label=np.zeros(len(rows), dtype=int),
        score=np.array([score for score, _ in rows], dtype=float),
        box=np.array([box for _, box in rows], dtype=float).reshape(-1, 4),
    )


def wanted(*boxes: Box, crowd: tuple[Box, ...] = ()) -> GroundTruth:
    count = len(boxes) + len(crowd)
    return GroundTruth(
        image=np.zeros(count, dtype=int),
        label=np.zeros(count, dtype=int),
        box=np.array([*boxes, *crowd], dtype=float).reshape(-1, 4),
        ignore=np.arange(count) >= len(boxes),
    )


def scores(detections: Detections, truth: GroundTruth) -> CocoScores:
    return coco_scores(detections, truth, num_images=1, num_classes=1)


def ap50(detections: Detections, truth: GroundTruth) -> float | None:
    return scores(detections, truth).ap50


def test_a_perfect_detector() -> None:
    assert scores(found((0.9, BOX)), wanted(BOX)) == CocoScores(100, 100, 100, 100, None, None)


def test_no_detection_is_zero_and_no_ground_truth_is_none() -> None:
    assert scores(found(), wanted(BOX)) == CocoScores(0, 0, 0, 0, None, None)
    nothing = CocoScores(None, None, None, None, None, None)
    assert scores(found((0.9, BOX)), wanted()) == nothing
    assert scores(found((0.9, BOX)), wanted(crowd=(BOX,))) == nothing
    assert scores(found(), wanted()) == nothing


def test_an_overlap_of_seven_tenths_counts_at_five_thresholds() -> None:
    given = scores(found((0.9, (0.0, 0.0, 10.0, 7.0))), wanted(BOX))
    assert (given.ap, given.ap50, given.ap75) == (pytest.approx(50), 100, 0)


def test_a_second_detection_takes_the_next_best_box() -> None:
    """Where VOC would call it a second find."""
    truth = wanted(BOX, (0.0, 0.0, 10.0, 12.0))
    assert ap50(found((0.9, BOX), (0.8, BOX)), truth) == 100
    assert ap50(found((0.9, BOX), (0.8, BOX), (0.7, BOX)), truth) == 100
    assert ap50(found((0.9, BOX), (0.8, AWAY)), truth) == pytest.approx(100 * 51 / 101)


def test_of_equally_good_boxes_the_last_is_taken() -> None:
    """Which may leave the other one for the next detection, or not."""
    left, right = BOX, (10.0, 0.0, 20.0, 10.0)
    both = (0.0, 0.0, 20.0, 10.0)
    assert ap50(found((0.9, both), (0.8, left)), wanted(left, right)) == 100
    assert ap50(found((0.9, both), (0.8, left)), wanted(right, left)) == pytest.approx(5100 / 101)


def test_any_number_of_detections_fall_on_a_crowd() -> None:
    part = (0.0, 0.0, 5.0, 5.0)  # all of it inside, which is what counts
    truth = wanted(AWAY, crowd=(BOX,))
    assert ap50(found((0.9, part), (0.8, part), (0.7, AWAY)), truth) == 100
    assert ap50(found((0.9, part), (0.8, part), (0.7, AWAY)), wanted(AWAY)) == pytest.approx(
        100 / 3
    )


def test_a_counted_box_is_better_than_a_crowd() -> None:
    near = (0.0, 0.0, 10.0, 8.0)
    assert ap50(found((0.9, BOX)), wanted(near, crowd=(BOX,))) == 100


def test_sizes_include_their_limits() -> None:
    edge = (0.0, 0.0, 32.0, 32.0)
    given = scores(found((0.9, edge)), wanted(edge))
    assert (given.small, given.medium, given.large) == (100, 100, None)


def test_only_detections_of_the_size_asked_for_are_wrong() -> None:
    large = (200.0, 200.0, 400.0, 400.0)
    given = scores(found((0.9, large), (0.8, BOX)), wanted(BOX))
    assert (given.ap50, given.small) == (pytest.approx(50), 100)


def test_more_than_a_hundred_detections_are_cut() -> None:
    rows = [(0.9 - i / 1000, AWAY) for i in range(100)]
    truth = wanted(BOX)
    assert ap50(found(*rows[:99], (0.1, BOX)), truth) == pytest.approx(1)
    assert ap50(found(*rows, (0.1, BOX)), truth) == 0


def test_inverted_boxes_find_nothing() -> None:
    assert ap50(found((0.9, (10.0, 10.0, 0.0, 0.0)), (0.8, BOX)), wanted(BOX)) == pytest.approx(50)


def test_by_class_size_and_threshold() -> None:
    ap = coco_ap(found((0.9, BOX)), wanted(BOX), num_images=1, num_classes=2)
    assert ap.shape == (2, 4, 10)
    assert (ap[0, :2] == 1).all()
    assert np.isnan(ap[0, 2:]).all()
    assert np.isnan(ap[1]).all()


def test_bad_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="num_images must be above every image's index, got 0, 0"):
        coco_scores(found(), wanted(BOX), num_images=0, num_classes=1)
    with pytest.raises(ValueError, match="scores must be finite"):
        scores(found((float("nan"), BOX)), wanted(BOX))
