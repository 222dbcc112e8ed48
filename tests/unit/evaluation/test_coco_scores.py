import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sora_det.evaluation import Detections, GroundTruth
from sora_det.evaluation.coco import coco_scores


def random_case(seed: int, found: int, wanted: int) -> tuple[Detections, GroundTruth]:
    rng = np.random.default_rng(seed)

    def boxes(n: int) -> np.ndarray:
        corner = rng.uniform(0, 60, (n, 2))
        return np.concatenate([corner, corner + rng.uniform(5, 120, (n, 2))], axis=1)

    truth = GroundTruth(
        image=rng.integers(0, 4, wanted),
        label=rng.integers(0, 3, wanted),
        box=boxes(wanted),
        ignore=rng.random(wanted) < 0.2,
    )
    near = rng.integers(0, wanted, found) if wanted else np.zeros(0, dtype=int)
    return (
        Detections(
            image=truth.image[near],
            label=np.where(rng.random(len(near)) < 0.8, truth.label[near], 0),
            score=rng.integers(0, 20, len(near)) / 20,
            box=truth.box[near] + rng.normal(0, 4, (len(near), 4)),
        ),
        truth,
    )


def plain(detections: Detections, truth: GroundTruth) -> np.ndarray:
    """The first six numbers that pycocotools prints, from dictionaries and `loadRes`."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": i, "width": 200, "height": 200} for i in range(4)],
            "categories": [{"id": k + 1, "name": str(k)} for k in range(3)],
            "annotations": [
                {
                    "id": i + 1,
                    "image_id": int(truth.image[i]),
                    "category_id": int(truth.label[i]) + 1,
                    "bbox": [*truth.box[i][:2], *(truth.box[i][2:] - truth.box[i][:2])],
                    "area": float(np.prod(truth.box[i][2:] - truth.box[i][:2])),
                    "iscrowd": int(truth.ignore[i]),
                }
                for i in range(len(truth))
            ],
        }
        coco.createIndex()
        rows = [
            {
                "image_id": int(detections.image[i]),
                "category_id": int(detections.label[i]) + 1,
                "bbox": [*detections.box[i][:2], *(detections.box[i][2:] - detections.box[i][:2])],
                "score": float(detections.score[i]),
            }
            for i in range(len(detections))
        ]
        run = COCOeval(coco, coco.loadRes(rows), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats[:6]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), found=st.integers(1, 40), wanted=st.integers(1, 20))
def test_equals_pycocotools_on_dictionaries(seed: int, found: int, wanted: int) -> None:
    detections, truth = random_case(seed, found, wanted)
    got = coco_scores(detections, truth, num_images=4, num_classes=3)
    values = [got.ap, got.ap50, got.ap75, got.small, got.medium, got.large]
    percent = [-100.0 if value is None else value for value in values]
    np.testing.assert_allclose(percent, plain(detections, truth) * 100, atol=1e-9)


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    coco_scores(*random_case(0, 10, 10), num_images=4, num_classes=3)
    assert capsys.readouterr() == ("", "")


def test_no_detection_is_zero_and_no_ground_truth_is_none() -> None:
    detections, truth = random_case(0, 10, 10)
    none = random_case(0, 0, 0)
    found_nothing = coco_scores(none[0], truth, num_images=4, num_classes=3)
    assert (found_nothing.ap, found_nothing.ap50, found_nothing.ap75) == (0.0, 0.0, 0.0)
    assert coco_scores(detections, none[1], num_images=4, num_classes=3).ap is None


def test_more_than_a_hundred_detections_are_cut() -> None:
    box = np.array([[0.0, 0.0, 10.0, 10.0]])
    truth = GroundTruth(image=np.array([0]), label=np.array([0]), box=box, ignore=np.array([False]))
    count = 101
    boxes = np.repeat(box + 50, count, axis=0)
    boxes[-1] = box
    detections = Detections(
        image=np.zeros(count, dtype=int),
        label=np.zeros(count, dtype=int),
        score=np.linspace(0.9, 0.1, count),
        box=boxes,
    )
    assert coco_scores(detections, truth, num_images=1, num_classes=1).ap == 0.0
