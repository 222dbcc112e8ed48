"""COCO's average precisions against pycocotools, class by class, size by size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.benchmarks.coco_objects import pycocotools_ap
from scripts.benchmarks.synthetic import CLASSES, DIVERSE_WEATHER, draw, sample
from sora_det.evaluation import Detections, GroundTruth, coco_match
from sora_det.evaluation.coco import coco_ap, coco_scores

SIZES = {"num_images": 4, "num_classes": 3}


def random_case(
    seed: int, found: int, wanted: int, *, grid: int = 0, scores: int = 20
) -> tuple[Detections, GroundTruth]:
    """Boxes of all three sizes; whole multiples of `grid` have equal overlaps and edge areas."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (wanted, 2))
    box = np.concatenate([corner, corner + rng.uniform(5, 160, (wanted, 2))], axis=1)
    near = rng.integers(0, wanted, found) if wanted else np.zeros(0, dtype=int)
    moved = box[near] + rng.normal(0, 4, (len(near), 4))
    if grid:
        box, moved = (grid * np.round(b / grid) for b in (box, moved))
    truth = GroundTruth(
        image=rng.integers(0, 4, wanted),
        label=rng.integers(0, 2, wanted),  # none of the last class
        box=box,
        ignore=rng.random(wanted) < 0.25,
    )
    return (
        Detections(
            image=truth.image[near],
            label=np.where(rng.random(len(near)) < 0.8, truth.label[near], 2),
            score=(rng.integers(0, scores, len(near)) / scores).astype(np.float32),
            box=moved.astype(np.float32),
        ),
        truth,
    )


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    found=st.integers(0, 60),
    wanted=st.integers(0, 30),
    grid=st.sampled_from([0, 1, 8, 32]),
    scores=st.sampled_from([1, 3, 1000]),
)
def test_equals_pycocotools(seed: int, found: int, wanted: int, grid: int, scores: int) -> None:
    case = random_case(seed, found, wanted, grid=grid, scores=scores)
    np.testing.assert_allclose(
        coco_ap(*case, **SIZES), pycocotools_ap(*case, **SIZES), atol=1e-12, equal_nan=True
    )


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools_beyond_a_hundred_detections(seed: int) -> None:
    case = random_case(seed, 1500, 40, grid=seed * 4)
    assert np.unique(case[0].image * 3 + case[0].label, return_counts=True)[1].max() > 200
    np.testing.assert_allclose(
        coco_ap(*case, **SIZES), pycocotools_ap(*case, **SIZES), atol=1e-12, equal_nan=True
    )


def test_equals_pycocotools_on_a_driving_scene() -> None:
    """In the order and precision of a detector's output, however the pairs are cut."""
    found, truth = draw(sample(DIVERSE_WEATHER[3], 60), seed=1)
    sizes = {"num_images": 60, "num_classes": len(CLASSES)}
    ours, theirs = coco_ap(found, truth, **sizes), pycocotools_ap(found, truth, **sizes)
    np.testing.assert_allclose(ours, theirs, atol=1e-12, equal_nan=True)
    assert np.nanmin(ours[:, 0, 0]) < 0.9 * np.nanmax(ours[:, 0, 0])


def test_equals_pycocotools_at_the_threshold_itself() -> None:
    """Halves of boxes: x, y, width, height lose the last bit that makes their overlap a half."""
    rows = [
        (37.6, 18.3, 56.9, 4.3, 11.6),
        (7.9, 3.2, 12.6, 12.5, 19.8),
        (14.3, 5.9, 22.7, 23.3, 30.6),
        (18.6, 7.9, 29.3, 4.7, 12.0),
    ]
    image, label = np.arange(len(rows)), np.zeros(len(rows), dtype=int)
    half = np.array([(middle, y1, x2, y2) for middle, _, x2, y1, y2 in rows])
    whole = np.array([(x1, y1, x2, y2) for _, x1, x2, y1, y2 in rows])
    case = (
        Detections(image, label, np.linspace(0.9, 0.1, len(rows)), half),
        GroundTruth(image, label, whole, np.zeros(len(rows), dtype=bool)),
    )
    sizes = {"num_images": len(rows), "num_classes": 1}
    assert pycocotools_ap(*case, **sizes)[0, 0, 0] == coco_ap(*case, **sizes)[0, 0, 0] == 0


def test_the_cut_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case(5, 200, 40, grid=4)
    whole = coco_ap(*case, **SIZES)
    monkeypatch.setattr(coco_match, "PAIRS_AT_ONCE", 5)
    np.testing.assert_array_equal(coco_ap(*case, **SIZES), whole)


def test_the_means_are_those_of_the_summary() -> None:
    case = random_case(3, 80, 40)
    whole, scores = 100 * pycocotools_ap(*case, **SIZES), coco_scores(*case, **SIZES)
    assert scores.ap == pytest.approx(np.nanmean(whole[:, 0]))
    assert scores.ap50 == pytest.approx(np.nanmean(whole[:, 0, 0]))
    assert scores.ap75 == pytest.approx(np.nanmean(whole[:, 0, 5]))
    by_size = [scores.small, scores.medium, scores.large]
    assert by_size == pytest.approx([np.nanmean(whole[:, size]) for size in (1, 2, 3)])
