from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    detections, truth = grid_case(np.random.default_rng(0), detections=200, truths=80)
    whole = match(detections, truth, num_classes=2)
    monkeypatch.setattr(ap, "PAIRS_AT_ONCE", 7)
    parts = match(detections, truth, num_classes=2)
    np.testing.assert_array_equal(whole.truth, parts.truth)
    np.testing.assert_array_equal(whole.iou, parts.iou)


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


# Against a plain loop, on a coarse grid that makes equal overlaps and equal scores common.


def grid_case(
    rng: np.random.Generator, detections: int, truths: int, scores: int = 6
) -> tuple[Detections, GroundTruth]:
    def boxes(n: int) -> np.ndarray:
        corner = rng.integers(0, 4, (n, 2))
        return np.concatenate([corner, corner + rng.integers(1, 4, (n, 2))], axis=1)

    return (
        Detections(
            image=rng.integers(0, 3, detections),
            label=rng.integers(0, 2, detections),
            score=rng.integers(0, scores, detections) / scores,
            box=boxes(detections).astype(np.float32),
        ),
        GroundTruth(
            image=rng.integers(0, 3, truths),
            label=rng.integers(0, 2, truths),
            box=boxes(truths),
            ignore=rng.random(truths) < 0.3,
        ),
    )


def overlap(a: np.ndarray, b: np.ndarray, more: float) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + more
    height = min(a[3], b[3]) - max(a[1], b[1]) + more
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(c[2] - c[0] + more) * (c[3] - c[1] + more) for c in (a, b)]
    return shared / (sum(areas) - shared)


def slow_ap(
    detections: Detections, truth: GroundTruth, label: int, iou: float, rule: Convention
) -> float:
    """One class, one box at a time."""
    rows = [i for i in range(len(detections)) if detections.label[i] == label]
    rows.sort(key=lambda i: (-detections.score[i], detections.image[i], i))
    order = sorted(range(len(truth)), key=lambda j: rule.ignored_last and truth.ignore[j])
    taken: set[int] = set()
    hits = misses = 0
    points = [(0.0, 0.0)]
    total = sum((truth.label == label) & ~truth.ignore)
    for position, i in enumerate(rows):
        best, top = -1, -1.0
        for j in order:
            if truth.label[j] == label and truth.image[j] == detections.image[i]:
                value = overlap(
                    detections.box[i].astype(float), truth.box[j], float(rule.legacy_pixel)
                )
                if value > top:
                    best, top = j, value
        good = top > iou if rule.strict else top >= iou
        if not good or (best in taken and not truth.ignore[best]):
            misses += 1
        elif not truth.ignore[best]:
            taken.add(best)
            hits += 1
        last = position + 1 == len(rows)
        score = detections.score[i]
        changes = last or detections.score[rows[position + 1]] != score
        if rule.ties == "ordered" or changes:
            points.append((hits / total, hits / max(hits + misses, 1)))
    if rule.interpolation == "11point":
        levels = [0.1 * k for k in range(11)]
        return sum(max([p for r, p in points if r >= t], default=0.0) for t in levels) / 11
    steps = pairwise(points)
    return sum(
        (b[0] - a[0]) * max(p for r, p in points if r >= b[0]) for a, b in steps if b[0] > a[0]
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.integers(0, 25), st.integers(0, 12)),
    convention=st.sampled_from(CONVENTIONS),
    iou=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
)
def test_equals_a_plain_loop(
    seed: int, sizes: tuple[int, int], convention: Convention, iou: float
) -> None:
    convention = replace(convention, score_decimals=None)
    detections, truth = grid_case(np.random.default_rng(seed), *sizes)
    result = average_precision(detections, truth, num_classes=2, iou=iou, convention=convention)
    for label, got in enumerate(result.classes):
        if got.ground_truth == 0:
            assert got.ap is None
        else:
            want = slow_ap(detections, truth, label, iou, convention)
            assert got.ap == pytest.approx(want, abs=1e-12)


def reordered(rows: Any, order: np.ndarray) -> Any:
    return type(rows)(**{name: column[order] for name, column in vars(rows).items()})


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_order_of_detections_and_images_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    detections, truth = grid_case(rng, 20, 10)
    detections = replace(detections, score=rng.permutation(20) / 20)  # no ties
    result = average_precision(detections, truth, num_classes=2)

    renamed = rng.permutation(3)
    moved = reordered(replace(detections, image=renamed[detections.image]), rng.permutation(20))
    by_image = np.argsort(renamed[truth.image], kind="stable")
    moved_truth = reordered(replace(truth, image=renamed[truth.image]), by_image)
    assert average_precision(moved, moved_truth, num_classes=2) == result


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_grouped_ties_depend_on_no_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    detections, truth = grid_case(rng, 20, 10, scores=3)
    convention = replace(DIVERSE_WEATHER, ties="grouped")
    result = average_precision(detections, truth, num_classes=2, convention=convention)
    renamed = rng.permutation(3)
    moved = reordered(replace(detections, image=renamed[detections.image]), rng.permutation(20))
    moved_truth = replace(truth, image=renamed[truth.image])
    again = average_precision(moved, moved_truth, num_classes=2, convention=convention)
    assert again == result


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_duplicates_never_help(seed: int) -> None:
    rng = np.random.default_rng(seed)
    detections, truth = grid_case(rng, 15, 10)
    twice = reordered(detections, np.repeat(np.arange(15), 2))
    once = average_precision(detections, truth, num_classes=2)
    more = average_precision(twice, truth, num_classes=2)
    for a, b in zip(once.classes, more.classes, strict=True):
        assert (a.ap is None and b.ap is None) or b.ap <= a.ap + 1e-12


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(-3, 3))
def test_a_late_mistake_changes_nothing(seed: int, shift: int) -> None:
    detections, truth = grid_case(np.random.default_rng(seed), 15, 10)
    wrong = found((0, 0, -1.0, FAR), (shift + 3, 1, -2.0, FAR))
    more = Detections(
        **{k: np.concatenate([v, getattr(wrong, k)]) for k, v in vars(detections).items()}
    )
    once = average_precision(detections, truth, num_classes=2)
    again = average_precision(more, truth, num_classes=2)
    assert [c.ap for c in again.classes] == [c.ap for c in once.classes]
