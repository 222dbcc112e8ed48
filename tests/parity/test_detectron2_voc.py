"""Average precision against Detectron2's own evaluator, run on files."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from detectron2.evaluation import PascalVOCDetectionEvaluator, pascal_voc_evaluation

from scripts.benchmarks.voc_files import batches, registered
from sora_det.evaluation import DETECTRON2_VOC, Detections, GroundTruth, match, score_matches

CLASSES = ("car", "person", "motor")
IMAGES = 25
LEVELS = [percent / 100 for percent in range(50, 100, 5)]


def random_case(seed: int, *, ties: bool) -> tuple[Detections, GroundTruth]:
    """Whole-numbered boxes; detections near them, many by whole pixels, so that overlaps are round.

    No class has no detection, on which Detectron2 stumbles; the last one has no ground truth.
    """
    rng = np.random.default_rng(seed)
    boxes, count = 120, 400
    corner = rng.integers(0, 150, (boxes, 2))
    truth = GroundTruth(
        image=np.sort(rng.integers(0, IMAGES, boxes)),
        label=rng.integers(0, 2, boxes),
        box=np.concatenate([corner, corner + rng.choice([8, 10, 20, 40], (boxes, 2))], axis=1),
        ignore=rng.random(boxes) < 0.2,
    )
    near = rng.integers(0, boxes, count)
    step = np.where(rng.random((count, 1)) < 0.5, 1.0, 0.37)
    moved = truth.box[near] + step * rng.integers(-3, 4, (count, 4))
    moved[350:] = np.roll(moved[350:], 1, axis=0)  # and some that miss
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    score = rng.permutation(np.arange(1, 999))[:count] / 1000 + rng.uniform(-4e-4, 4e-4, count)
    if ties:
        score = rng.integers(1, 30, count) / 30
    image = truth.image[near]
    detections = Detections(
        image=image,
        label=np.where(rng.random(count) < 0.9, truth.label[near], 2),
        score=score.astype(np.float32),
        box=moved.astype(np.float32),
    )
    return detections, truth


def detectron2(
    folder: Path,
    detections: Detections,
    truth: GroundTruth,
    year: int,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[dict[str, float], np.ndarray]:
    """What it reports, and what its parts give: (threshold, class), in percent."""
    parts = []
    scored = pascal_voc_evaluation.voc_eval

    def recorded(*args: Any, **options: Any) -> Any:
        found = scored(*args, **options)
        parts.append(100 * found[2])
        return found

    monkeypatch.setattr(pascal_voc_evaluation, "voc_eval", recorded)
    with registered(folder, truth, CLASSES, images=IMAGES, year=year) as name:
        evaluator = PascalVOCDetectionEvaluator(name)
        evaluator.reset()
        for image, output in batches(detections, IMAGES):
            evaluator.process(image, output)
        with np.errstate(invalid="ignore"):  # 0 found of 0
            report = evaluator.evaluate()["bbox"]
    return report, np.array(parts).reshape(len(CLASSES), len(LEVELS)).T


def check(detections: Detections, truth: GroundTruth, year: int, found: Any) -> None:
    report, parts = found
    points = "11point" if year == 2007 else "area"
    convention = replace(DETECTRON2_VOC, interpolation=points)
    matches = match(detections, truth, num_classes=len(CLASSES), convention=convention)
    results = [score_matches(matches, iou=level) for level in LEVELS]
    ours = np.array([[100 * (c.ap or 0) for c in result.classes] for result in results])
    counted = slice(None) if year == 2007 else slice(2)  # its area of an absent class is no number
    np.testing.assert_allclose(ours[:, counted], parts[:, counted], atol=1e-9)
    if year == 2007:
        means = [100 * (result.mean or 0) for result in results]
        assert report == pytest.approx({"AP": np.mean(means), "AP50": means[0], "AP75": means[5]})
    assert ours[0, :2].min() > 20
    assert ours[-1, :2].max() < ours[0, :2].min()


@pytest.mark.parametrize("year", [2007, 2012])
@pytest.mark.parametrize("seed", range(5))
def test_equals_detectron2(
    seed: int, year: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = random_case(seed, ties=False)
    check(*case, year, detectron2(tmp_path, *case, year, monkeypatch))


@pytest.mark.parametrize("seed", range(3))
def test_equals_detectron2_on_ties_once_its_sort_is_stable(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stable(SimpleNamespace):
        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

    stable = Stable(argsort=lambda values: np.argsort(values, kind="stable"))
    monkeypatch.setattr(pascal_voc_evaluation, "np", stable)
    case = random_case(seed, ties=True)
    check(*case, 2007, detectron2(tmp_path, *case, 2007, monkeypatch))


def test_rounding_happens_in_the_files_coordinates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.05 + 1 falls below 1.05 in single precision; rounded before the sum, it would not."""
    one = np.float32(0.05)
    assert f"{one:.1f}" == "0.1"
    assert f"{one + np.float32(1):.1f}" == "1.0"
    truth = GroundTruth(
        np.array([0]), np.array([0]), np.array([[0.0, 0.0, 20.0, 10.0]]), np.array([False])
    )
    box = np.array([[one, 0, 10.05, 10], [30, 30, 40, 40], [30, 30, 40, 40]], dtype=np.float32)
    detections = Detections(
        np.zeros(3, int), np.arange(3), np.array([0.9, 0.8, 0.7], dtype=np.float32), box
    )
    _, parts = detectron2(tmp_path, detections, truth, 2007, monkeypatch)
    rounded = replace(detections, box=np.round(box.astype(float), 1))  # half the width, no more
    ours = [
        score_matches(match(given, truth, num_classes=3, convention=DETECTRON2_VOC)).classes[0].ap
        for given in (detections, rounded)
    ]
    assert parts[0, 0] == pytest.approx(100)
    assert ours == [1, 0]
