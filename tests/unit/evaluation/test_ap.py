from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sora_det.evaluation import (
    DETECTRON2_VOC,
    DIVERSE_WEATHER,
    REFERENCE,
    Convention,
    Detections,
    GroundTruth,
    ap,
    average_precision,
    curves,
    match,
    score_matches,
)

CONVENTIONS = (
    DIVERSE_WEATHER,
    REFERENCE,
    DETECTRON2_VOC,
    Convention(interpolation="area"),
    Convention(interpolation="area", ties="grouped"),
)
BOX = [0.0, 0.0, 10.0, 10.0]
FAR = [100.0, 100.0, 110.0, 110.0]


def found(*rows: tuple[int, int, float, list[float]]) -> Detections:
    """Detections from (image, class, score, box)."""
    return Detections(
        image=np.array([r[0] for r in rows], dtype=int),
        label=np.array([r[1] for r in rows], dtype=int),
        score=np.array([r[2] for r in rows], dtype=float),
        box=np.array([r[3] for r in rows], dtype=float).reshape(-1, 4),
    )


def wanted(*rows: tuple[int, int, list[float]] | tuple[int, int, list[float], bool]) -> GroundTruth:
    """Ground truth from (image, class, box) or (image, class, box, ignored)."""
    return GroundTruth(
        image=np.array([r[0] for r in rows], dtype=int),
        label=np.array([r[1] for r in rows], dtype=int),
        box=np.array([r[2] for r in rows], dtype=float).reshape(-1, 4),
        ignore=np.array([len(r) > 3 and r[3] for r in rows], dtype=bool),
    )


def ap_of(detections: Detections, truth: GroundTruth, **changes: Any) -> float | None:
    convention = replace(DIVERSE_WEATHER, **changes)
    return average_precision(detections, truth, num_classes=1, convention=convention).mean


def test_a_perfect_detector_scores_one() -> None:
    assert ap_of(found((0, 0, 0.9, BOX)), wanted((0, 0, BOX))) == 1.0
    assert ap_of(found((0, 0, 0.9, BOX)), wanted((0, 0, BOX)), interpolation="area") == 1.0


def test_no_detection_scores_zero() -> None:
    for points in ("11point", "area"):
        assert ap_of(found(), wanted((0, 0, BOX)), interpolation=points) == 0.0


def test_no_ground_truth_has_no_score() -> None:
    assert ap_of(found((0, 0, 0.9, BOX)), wanted()) is None
    assert ap_of(found(), wanted()) is None
    assert ap_of(found(), wanted((0, 0, BOX, True))) is None


def test_a_class_without_ground_truth_is_skipped_or_zero() -> None:
    detections, truth = found((0, 0, 0.9, BOX), (0, 1, 0.8, BOX)), wanted((0, 0, BOX))
    skip = average_precision(detections, truth, num_classes=3)
    zero = average_precision(
        detections, truth, num_classes=3, convention=replace(DIVERSE_WEATHER, absent="zero")
    )
    assert (skip.mean, zero.mean) == (1.0, pytest.approx(1 / 3))
    assert [c.ap for c in skip.classes] == [1.0, None, None]
    assert [c.detections for c in skip.classes] == [1, 1, 0]


def test_eleven_points_and_area_by_hand() -> None:
    truth = wanted((0, 0, BOX), (1, 0, BOX))
    detections = found((0, 0, 0.9, BOX), (0, 0, 0.8, FAR), (1, 0, 0.7, BOX))
    # precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1
    assert ap_of(detections, truth) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert ap_of(detections, truth, interpolation="area") == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_a_recall_of_three_tenths_misses_the_level_as_in_the_references() -> None:
    truth = wanted(*((i, 0, BOX) for i in range(10)))
    detections = found(*((i, 0, 0.9, BOX) for i in range(3)))
    assert ap_of(detections, truth) == pytest.approx(3 / 11)  # levels 0, 0.1 and 0.2 only


def test_a_second_find_is_a_mistake() -> None:
    truth = wanted((0, 0, BOX))
    twice = found((0, 0, 0.9, BOX), (0, 0, 0.8, BOX))
    matches = match(twice, truth, num_classes=1)
    right, neutral = ap.verdicts(matches)
    assert right.tolist() == [True, False]
    assert not neutral.any()
    (curve,) = curves(matches)
    assert curve.recall.tolist() == [1.0, 1.0]
    assert curve.precision.tolist() == [1.0, 0.5]


def test_only_the_best_ground_truth_can_be_found() -> None:
    near = [1.0, 0.0, 11.0, 10.0]
    truth = wanted((0, 0, BOX), (0, 0, near))
    both_like_the_first = found((0, 0, 0.9, BOX), (0, 0, 0.8, [0.1, 0.0, 10.1, 10.0]))
    right, _ = ap.verdicts(match(both_like_the_first, truth, num_classes=1))
    assert right.tolist() == [True, False]


def test_ignored_boxes_count_neither_way() -> None:
    truth = wanted((0, 0, BOX), (0, 0, FAR, True))
    detections = found((0, 0, 0.9, FAR), (0, 0, 0.8, FAR), (0, 0, 0.7, BOX))
    assert ap_of(detections, truth) == 1.0


def test_of_equal_overlaps_a_counted_box_wins() -> None:
    truth = wanted((0, 0, BOX, True), (0, 0, BOX))
    assert ap_of(found((0, 0, 0.9, BOX)), truth) == 1.0
    assert ap_of(found((0, 0, 0.9, BOX)), truth, ignored_last=False) == 0.0


def test_the_threshold_itself_matches_unless_strict() -> None:
    truth = wanted((0, 0, [0.0, 0.0, 10.0, 10.0]))
    half = found((0, 0, 0.9, [0.0, 0.0, 10.0, 5.0]))
    assert ap_of(half, truth) == 1.0
    assert ap_of(half, truth, strict=True) == 0.0


def test_the_extra_pixel_changes_the_overlap() -> None:
    truth = wanted((0, 0, [0.0, 0.0, 9.0, 9.0]))  # 10 pixels wide if the last one is inside
    shifted = found((0, 0, 0.9, [0.0, 3.0, 9.0, 12.0]))
    assert ap_of(shifted, truth, legacy_pixel=True) == 1.0  # 70 / 130
    assert ap_of(shifted, truth) == 1.0  # 54 / 108, exactly one half
    assert ap_of(shifted, truth, strict=True) == 0.0


def test_rounding_of_scores_makes_ties() -> None:
    truth = wanted((0, 0, BOX))
    detections = found((0, 0, 0.9001, FAR), (0, 0, 0.9004, BOX))
    assert ap_of(detections, truth) == 1.0
    assert ap_of(detections, truth, score_decimals=3) == 0.5  # input order decides
    assert ap_of(detections, truth, score_decimals=3, ties="grouped") == 0.5


def test_equal_scores_are_ranked_by_image_then_input() -> None:
    truth = wanted((0, 0, BOX), (5, 0, BOX))
    matches = match(
        found((5, 0, 0.5, BOX), (0, 0, 0.5, FAR), (0, 0, 0.5, BOX)), truth, num_classes=1
    )
    assert matches.source.tolist() == [1, 2, 0]


def test_empty_boxes_overlap_nothing() -> None:
    empty = [5.0, 5.0, 5.0, 5.0]
    inverted = [9.0, 9.0, 1.0, 1.0]
    truth = wanted((0, 0, BOX))
    for box in (empty, inverted):
        for convention in CONVENTIONS:
            result = average_precision(
                found((0, 0, 0.9, box)), truth, num_classes=1, convention=convention
            )
            assert result.mean == 0.0


def test_threshold_zero_still_needs_a_ground_truth() -> None:
    detections, truth = found((0, 0, 0.9, BOX), (1, 0, 0.8, BOX)), wanted((0, 0, BOX))
    right, _ = ap.verdicts(match(detections, truth, num_classes=1), iou=0.0)
    assert right.tolist() == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": np.array([np.nan])}, "scores must be finite, got nan in detection 0"),
        ({"box": np.array([[0.0, 0.0, np.inf, 1.0]])}, "boxes of detections must be finite"),
        ({"label": np.array([2])}, r"labels of detections must be 0\.\.1, got 2\.\.2"),
        ({"label": np.array([0.0])}, "label of detections must be integers, got float64"),
        ({"image": np.array([-1])}, "image indices of detections must be >= 0, got -1"),
        ({"score": np.array([0.1, 0.2])}, r"score of detections must have shape \(1,\)"),
        ({"box": np.zeros((1, 5))}, r"box of detections must have shape \(1, 4\)"),
    ],
)
def test_bad_arrays_are_refused(change: dict[str, Any], message: str) -> None:
    detections = replace(found((0, 0, 0.9, BOX)), **change)
    with pytest.raises(ValueError, match=message):
        match(detections, wanted((0, 0, BOX)), num_classes=2)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="interpolation must be one of 11point, area, got '101'"):
        Convention(interpolation="101")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"iou must be in 0..1, got 50"):
        score_matches(match(found(), wanted(), num_classes=1), iou=50)
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        match(found(), wanted(), num_classes=0)
