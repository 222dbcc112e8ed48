"""COCO's average precision by pycocotools itself, the peer of `sora_det.evaluation.coco`."""

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sora_det.evaluation import Detections, GroundTruth


def pycocotools_ap(
    detections: Detections, truth: GroundTruth, *, num_images: int, num_classes: int
) -> np.ndarray:
    """Return average precision by class, size (all, small, medium, large) and IoU threshold.

    0..1, NaN without ground truth. Nothing is printed.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        wanted = _coco(truth, num_images, num_classes, {"iscrowd": truth.ignore.astype(int)})
        scores = {"score": detections.score.astype(float)}
        run = COCOeval(wanted, _coco(detections, num_images, num_classes, scores), "bbox")
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][..., -1]  # (IoU, recall, class, size), -1 if undefined
    mean = np.where((precision == -1).any(axis=1), np.nan, precision.mean(axis=1))
    found: np.ndarray = mean.transpose(1, 2, 0)
    return found


def _coco(
    rows: Detections | GroundTruth, num_images: int, num_classes: int, extra: dict[str, Any]
) -> COCO:
    """A COCO object with one annotation per row; ids start at 1, as 0 means "unmatched" there."""
    box = rows.box.astype(float)
    size = box[:, 2:] - box[:, :2]
    columns = {
        "image_id": rows.image,
        "category_id": rows.label,
        "bbox": np.concatenate([box[:, :2], size], axis=1),
        "area": size.prod(axis=1),
        "iscrowd": np.zeros(len(rows), dtype=int),
        **extra,
    }
    names = ["id", *columns]
    values = zip(range(1, len(rows) + 1), *(c.tolist() for c in columns.values()), strict=True)
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(num_images)],
        "categories": [{"id": k} for k in range(num_classes)],
        "annotations": [dict(zip(names, row, strict=True)) for row in values],
    }
    coco.createIndex()
    return coco
