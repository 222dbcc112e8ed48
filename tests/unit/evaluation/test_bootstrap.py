from dataclasses import replace

import numpy as np
import pytest

from sora_det.evaluation import Convention, Detections, GroundTruth, match, score_matches
from sora_det.evaluation.bootstrap import _drawn, bootstrap, interval

CONVENTIONS = [
    Convention(),
    Convention(interpolation="area"),
    Convention(absent="zero"),
    Convention(ties="grouped"),
    Convention(interpolation="area", ties="grouped"),
]
CLASSES = 3


def data(images: int, seed: int = 0) -> tuple[Detections, GroundTruth]:
    """Boxes, some found a little off, some missed, some ignored, and wrong detections."""
    draw = np.random.default_rng(seed)
    count = 4 * images
    corner = draw.integers(0, 80, (count, 2))
    truth = GroundTruth(
        np.repeat(np.arange(images), 4),
        draw.integers(0, 2, count),  # none of the last class
        np.hstack([corner, corner + draw.integers(10, 30, (count, 2))]).astype(float),
        draw.random(count) < 0.1,
    )
    rows = draw.integers(0, count, 6 * images)
    box = truth.box[rows] + draw.normal(0, 3, (len(rows), 4))
    box[:, 2:] = np.maximum(box[:, 2:], box[:, :2] + 1)
    return Detections(
        truth.image[rows],
        np.where(draw.random(len(rows)) < 0.8, truth.label[rows], draw.integers(0, 3, len(rows))),
        draw.permutation(len(rows)) / len(rows),  # no ties: copies of an image would mix with them
        box,
    ), truth


def duplicated(
    found: Detections, truth: GroundTruth, counts: np.ndarray
) -> tuple[Detections, GroundTruth]:
    """Copy whole images as often as they were drawn, each copy an image of its own."""
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    number: list[int] = []
    for image, times in enumerate(counts):
        for _ in range(times):
            parts.append(
                (np.flatnonzero(found.image == image), np.flatnonzero(truth.image == image))
            )
            number.append(len(number))
    rows, boxes = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    names, others = (np.repeat(number, [len(part[i]) for part in parts]) for i in (0, 1))
    return (
        Detections(names, found.label[rows], found.score[rows], found.box[rows]),
        GroundTruth(others, truth.label[boxes], truth.box[boxes], truth.ignore[boxes]),
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_draw_is_the_score_of_copied_images(convention: Convention) -> None:
    images = 7
    found, truth = data(images)
    if convention.ties == "grouped":
        found = replace(found, score=np.round(found.score, 1))
    matches = match(found, truth, num_classes=CLASSES, convention=convention)
    draws = bootstrap(matches, num_images=images, replicates=20, seed=3)
    assert draws.shape == (20, CLASSES + 1)
    draw = np.random.default_rng(3)
    for number in range(20):
        copies = duplicated(found, truth, _drawn(draw, images))
        want = score_matches(match(*copies, num_classes=CLASSES, convention=convention))
        values = [c.ap for c in want.classes] + [want.mean]
        np.testing.assert_allclose(
            draws[number], [np.nan if v is None else v for v in values], atol=1e-12
        )
    assert np.isnan(draws[:, 2]).all()
    assert draws[:, 0].std() > 0.01


def test_the_seed_decides_and_more_draws_begin_with_the_same() -> None:
    found, truth = data(9)
    matches = match(found, truth, num_classes=CLASSES)
    whole = bootstrap(matches, num_images=9, replicates=11, seed=1)
    np.testing.assert_array_equal(bootstrap(matches, num_images=9, replicates=5, seed=1), whole[:5])
    assert not np.array_equal(whole, bootstrap(matches, num_images=9, replicates=11, seed=2))


def test_models_on_the_same_images_are_drawn_alike() -> None:
    """Where no image with a class was drawn, it is missing for both."""
    found, truth = data(4)
    truth = replace(truth, label=truth.image % 2)
    perfect = Detections(truth.image, truth.label, np.ones(len(truth)), truth.box)
    missing = [
        np.isnan(bootstrap(match(one, truth, num_classes=CLASSES), num_images=4, replicates=300))
        for one in (found, perfect)
    ]
    assert 0 < missing[0][:, 0].sum() < 300
    np.testing.assert_array_equal(*missing)


def test_the_interval_covers_what_another_sample_scores() -> None:
    """Its width is that of the scores of independent sets of images."""
    scores, widths = [], []
    for seed in range(60):
        found, truth = data(40, seed)
        matches = match(found, truth, num_classes=CLASSES)
        scores.append(score_matches(matches).mean)
        if seed < 6:
            ends = interval(bootstrap(matches, num_images=40, replicates=200)[:, -1])
            assert ends is not None
            widths.append(ends[1] - ends[0])
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(scores), rel=0.4)


def test_an_image_too_many() -> None:
    found, truth = data(4)
    matches = match(found, truth, num_classes=CLASSES)
    with pytest.raises(ValueError, match="num_images must be above every image's index, got 3, 3"):
        bootstrap(matches, num_images=3)


def test_images_without_anything_count_as_drawn() -> None:
    """With many empty images the boxes of an image are often drawn not at all."""
    found, truth = data(1)
    matches = match(found, truth, num_classes=CLASSES)
    draws = bootstrap(matches, num_images=10, replicates=200, seed=0)
    missing = np.isnan(draws[:, -1]).mean()
    assert missing == pytest.approx(0.9**10, abs=0.1)


def test_without_detections_or_boxes() -> None:
    none = np.zeros(0, dtype=int)
    nothing = Detections(none, none, np.zeros(0), np.zeros((0, 4)))
    _, truth = data(4)
    draws = bootstrap(match(nothing, truth, num_classes=CLASSES), num_images=4, replicates=5)
    assert (draws[:, -1] == 0).all()
    empty = GroundTruth(none, none, np.zeros((0, 4)), none.astype(bool))
    draws = bootstrap(match(nothing, empty, num_classes=CLASSES), num_images=4, replicates=5)
    assert np.isnan(draws).all()
    assert bootstrap(match(nothing, empty, num_classes=1), num_images=4, replicates=0).shape == (
        0,
        2,
    )


def test_interval() -> None:
    assert interval(np.arange(101.0), level=0.9) == pytest.approx((5, 95))
    assert interval(np.array([np.nan, 2.0, 2.0])) == (2.0, 2.0)
    assert interval(np.array([np.nan])) is None
    assert interval(np.zeros(0)) is None
