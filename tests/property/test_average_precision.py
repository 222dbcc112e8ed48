"""Average precision against a plain loop over boxes, and what must not change it."""

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
    APResult,
    Convention,
    Detections,
    GroundTruth,
    average_precision,
    curves,
    match,
    score_matches,
)

CLASSES = 3  # grid_case draws nothing of the last one
CONVENTIONS = (
    DIVERSE_WEATHER,
    REFERENCE,
    DETECTRON2_VOC,
    Convention(interpolation="area", strict=True),
    Convention(interpolation="area", ties="grouped"),
    Convention(ties="grouped", absent="zero"),
)
SEEDS = st.integers(0, 2**32 - 1)
IOUS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
FAR = np.array([100.0, 100.0, 110.0, 110.0])


def grid_case(
    rng: np.random.Generator, detections: int, truths: int, scores: int = 6
) -> tuple[Detections, GroundTruth]:
    """Boxes on a coarse grid, which makes equal overlaps, full thresholds and ties common."""

    def boxes(n: int) -> np.ndarray:
        corner = rng.integers(0, 4, (n, 2))
        return np.concatenate([corner, corner + rng.integers(1, 4, (n, 2))], axis=1)

    return (
        Detections(
            image=rng.integers(0, 3, detections),
            label=rng.integers(0, 2, detections),
            score=rng.integers(-1, scores, detections) / scores,
            box=boxes(detections).astype(np.float32),
        ),
        GroundTruth(
            image=rng.integers(0, 3, truths),
            label=rng.integers(0, 2, truths),
            box=boxes(truths),
            ignore=rng.random(truths) < 0.3,
        ),
    )


def distinct(rng: np.random.Generator, detections: Detections) -> Detections:
    count = len(detections)
    return replace(detections, score=rng.permutation(count).astype(np.float32) / max(count, 1))


def picked(rows: Any, order: np.ndarray) -> Any:
    return type(rows)(**{name: column[order] for name, column in vars(rows).items()})


def joined(*parts: Any) -> Any:
    names = vars(parts[0])
    return type(parts[0])(**{k: np.concatenate([getattr(p, k) for p in parts]) for k in names})


def score(detections: Detections, truth: GroundTruth, iou: float = 0.5, **changes: Any) -> APResult:
    convention = replace(DIVERSE_WEATHER, **changes)
    return average_precision(detections, truth, num_classes=CLASSES, iou=iou, convention=convention)


# A plain loop ---------------------------------------------------------------------------


def overlap(a: np.ndarray, b: np.ndarray, more: float) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + more
    height = min(a[3], b[3]) - max(a[1], b[1]) + more
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(c[2] - c[0] + more) * (c[3] - c[1] + more) for c in (a, b)]
    return shared / (sum(areas) - shared)


def in_file(box: np.ndarray, rule: Convention) -> np.ndarray:
    corner = np.array([1, 1, 0, 0], dtype=box.dtype)
    return (box + corner if rule.voc_file else box).astype(float)


def slow_ap(
    detections: Detections, truth: GroundTruth, label: int, iou: float, rule: Convention
) -> float:
    """One class, one box at a time."""
    scores = detections.score.tolist()
    if rule.score_decimals is not None:
        scores = [float(f"{score:.{rule.score_decimals}f}") for score in scores]
    rows = [i for i in range(len(scores)) if detections.label[i] == label]
    rows.sort(key=lambda i: (-scores[i], detections.image[i], i))
    order = sorted(range(len(truth)), key=lambda j: rule.ignored_last and truth.ignore[j])
    taken: set[int] = set()
    hits = misses = 0
    points = [(0.0, 0.0)]
    total = sum((truth.label == label) & ~truth.ignore)
    for position, i in enumerate(rows):
        box = in_file(detections.box[i], rule)
        if rule.box_decimals is not None:
            box = np.array([float(f"{side:.{rule.box_decimals}f}") for side in box])
        best, top = -1, -1.0
        for j in order:
            if truth.label[j] == label and truth.image[j] == detections.image[i]:
                value = overlap(box, in_file(truth.box[j], rule), float(rule.legacy_pixel))
                if value > top:
                    best, top = j, value
        good = best >= 0 and (top > iou if rule.strict else top >= iou)
        if not good or (best in taken and not truth.ignore[best]):
            misses += 1
        elif not truth.ignore[best]:
            taken.add(best)
            hits += 1
        last = position + 1 == len(rows)
        if rule.ties == "ordered" or last or scores[rows[position + 1]] != scores[i]:
            points.append((hits / total, hits / max(hits + misses, 1)))
    if rule.interpolation == "11point":
        levels = [0.1 * k for k in range(11)]
        return sum(max([p for r, p in points if r >= t], default=0.0) for t in levels) / 11
    return sum(
        (b[0] - a[0]) * max(p for r, p in points if r >= b[0])
        for a, b in pairwise(points)
        if b[0] > a[0]
    )


@settings(max_examples=150, deadline=None)
@given(
    seed=SEEDS,
    sizes=st.tuples(st.integers(0, 25), st.integers(0, 12)),
    convention=st.sampled_from(CONVENTIONS),
    iou=IOUS,
    single=st.booleans(),
    decimals=st.booleans(),
)
def test_equals_a_plain_loop(
    seed: int,
    sizes: tuple[int, int],
    convention: Convention,
    iou: float,
    single: bool,
    decimals: bool,
) -> None:
    rng = np.random.default_rng(seed)
    detections, truth = grid_case(rng, *sizes)
    if decimals:
        box = detections.box + rng.normal(0, 0.3, detections.box.shape).astype(np.float32)
        box[:, 2:] = np.maximum(box[:, 2:], box[:, :2] + 0.5)
        detections = replace(detections, box=box)
    if single:
        detections = replace(detections, score=detections.score.astype(np.float32))
    result = average_precision(
        detections, truth, num_classes=CLASSES, iou=iou, convention=convention
    )
    for label, got in enumerate(result.classes):
        assert got.detections == (detections.label == label).sum()
        if got.ground_truth == 0:
            assert got.ap is None
        else:
            want = slow_ap(detections, truth, label, iou, convention)
            assert got.ap == pytest.approx(want, abs=1e-12)
    counted = [c.ap or 0.0 for c in result.classes]
    if convention.absent == "skip":
        counted = [c.ap for c in result.classes if c.ap is not None]
    want = np.mean(counted) if counted else None
    assert result.mean == (want if want is None else pytest.approx(want, abs=1e-12))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, convention=st.sampled_from(CONVENTIONS), iou=IOUS)
def test_the_score_is_the_area_of_the_curve(seed: int, convention: Convention, iou: float) -> None:
    """`score_matches` reads right detections alone, `curves` returns them all."""
    matches = match(
        *grid_case(np.random.default_rng(seed), 25, 12), num_classes=2, convention=convention
    )
    result = score_matches(matches, iou=iou)
    for curve, got in zip(curves(matches, iou=iou), result.classes, strict=True):
        best = [curve.precision[curve.recall >= r].max(initial=0.0) for r in curve.recall]
        if convention.interpolation == "11point":
            levels = [0.1 * k for k in range(11)]
            best = [curve.precision[curve.recall >= r].max(initial=0.0) for r in levels]
            want = np.mean(best)
        else:
            want = np.diff(curve.recall, prepend=0.0) @ np.array(best)
        assert got.ap is None or got.ap == pytest.approx(want, abs=1e-12)


# What must not change it -------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, convention=st.sampled_from(CONVENTIONS), iou=IOUS)
def test_order_of_detections_and_images_does_not_matter(
    seed: int, convention: Convention, iou: float
) -> None:
    """With distinct scores, or with ties that are grouped."""
    rng = np.random.default_rng(seed)
    detections, truth = grid_case(rng, 20, 10, scores=3)
    if convention.ties == "ordered":
        detections = distinct(rng, detections)
    rule: dict[str, Any] = {"num_classes": CLASSES, "iou": iou, "convention": convention}
    result = average_precision(detections, truth, **rule)

    renamed = rng.permutation(3)
    moved = picked(replace(detections, image=renamed[detections.image]), rng.permutation(20))
    by_image = np.argsort(renamed[truth.image], kind="stable")
    moved_truth = picked(replace(truth, image=renamed[truth.image]), by_image)
    assert average_precision(moved, moved_truth, **rule) == result


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, iou=st.sampled_from([0.25, 0.5, 0.75]))
def test_order_of_boxes_does_not_matter_unless_they_are_equally_good(seed: int, iou: float) -> None:
    rng = np.random.default_rng(seed)
    detections, truth = grid_case(rng, 20, 10)
    truth = replace(truth, box=truth.box + rng.uniform(0, 0.1, truth.box.shape))
    assert score(detections, picked(truth, rng.permutation(10)), iou) == score(
        detections, truth, iou
    )


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, convention=st.sampled_from(CONVENTIONS))
def test_duplicates_never_help(seed: int, convention: Convention) -> None:
    rule: dict[str, Any] = {"num_classes": CLASSES, "convention": convention}
    detections, truth = grid_case(np.random.default_rng(seed), 15, 10)
    twice = picked(detections, np.repeat(np.arange(15), 2))
    once = average_precision(detections, truth, **rule)
    more = average_precision(twice, truth, **rule)
    for a, b in zip(once.classes, more.classes, strict=True):
        assert b.detections == 2 * a.detections
        assert (a.ap is None and b.ap is None) or b.ap <= a.ap + 1e-12


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, image=st.integers(0, 5), convention=st.sampled_from(CONVENTIONS))
def test_a_last_mistake_changes_nothing(seed: int, image: int, convention: Convention) -> None:
    rule: dict[str, Any] = {"num_classes": CLASSES, "convention": convention}
    detections, truth = grid_case(np.random.default_rng(seed), 15, 10)
    wrong = Detections(
        np.full(2, image), np.arange(2), np.full(2, -2.0), np.stack([FAR, FAR]).astype(np.float32)
    )
    once = average_precision(detections, truth, **rule)
    again = average_precision(joined(detections, wrong), truth, **rule)
    assert [c.ap for c in again.classes] == [c.ap for c in once.classes]


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, iou=st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_a_first_find_never_hurts(seed: int, iou: float) -> None:
    """A box that nothing else asks for, found before all others."""
    detections, truth = grid_case(np.random.default_rng(seed), 15, 10)
    box = GroundTruth(np.array([1]), np.array([0]), FAR[None], np.array([False]))
    find = Detections(np.array([1]), np.array([0]), np.array([9.0]), FAR[None].astype(np.float32))
    missed = score(detections, joined(truth, box), iou).classes
    hit = score(joined(detections, find), joined(truth, box), iou).classes
    assert hit[0].ap >= missed[0].ap
    assert hit[0].ap > 0
    assert hit[1:] == missed[1:]


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, convention=st.sampled_from(CONVENTIONS), iou=IOUS)
def test_nothing_found_nothing_to_find(seed: int, convention: Convention, iou: float) -> None:
    rule: dict[str, Any] = {"num_classes": CLASSES, "iou": iou, "convention": convention}
    rng = np.random.default_rng(seed)
    detections, truth = grid_case(rng, 10, 10)
    none, bare = grid_case(rng, 0, 0)
    found = average_precision(none, truth, **rule)
    assert {c.ap for c in found.classes if c.ground_truth} <= {0.0}
    assert found.classes[2].ap is None
    unknown = average_precision(detections, bare, **rule)
    assert [c.ap for c in unknown.classes] == [None] * CLASSES
    nothing = None if convention.absent == "skip" else 0.0
    assert unknown.mean == nothing
    assert average_precision(none, bare, **rule).mean == nothing


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_a_class_does_not_see_the_others(seed: int) -> None:
    detections, truth = grid_case(np.random.default_rng(seed), 20, 12)
    whole = score(detections, truth)
    for label in range(CLASSES):
        alone = score(picked(detections, detections.label == label),
                      picked(truth, truth.label == label))  # fmt: skip
        assert alone.classes[label] == whole.classes[label]
