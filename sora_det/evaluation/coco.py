"""COCO's box metrics through pycocotools, on arrays in memory and without its printing."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .ap import Detections, GroundTruth

MAX_DETECTIONS = 100  # per image and class, COCO's own limit


@dataclass(frozen=True)
class CocoScores:
    """COCO's average precisions in percent, None where there is no ground truth to find.

    Attributes:
        ap: mean over IoU 0.50, 0.55 ... 0.95 and classes; ap50 and ap75 at one IoU.
        small, medium, large: `ap` by area of the box in square pixels, limits 32² and 96².
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    small: float | None
    medium: float | None
    large: float | None


def coco_scores(
    detections: Detections, truth: GroundTruth, *, num_images: int, num_classes: int
) -> CocoScores:
    """Score detections the COCO way.

    Ignored boxes are COCO's crowds: any number of detections may fall on one. Areas are those of
    the boxes, as no masks are known. Image indices are 0..num_images-1.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        wanted = _coco(truth, num_images, num_classes, {"iscrowd": truth.ignore.astype(int)})
        given = _coco(
            detections, num_images, num_classes, {"score": detections.score.astype(float)}
        )
        run = COCOeval(wanted, given, "bbox")
        run.params.maxDets = [MAX_DETECTIONS]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][..., 0]  # (IoU, recall, class, area), -1 if undefined
    area = {label: i for i, label in enumerate(run.params.areaRngLbl)}
    whole = precision[..., area["all"]]
    threshold = np.round(run.params.iouThrs, 2)
    return CocoScores(
        ap=_mean(whole),
        ap50=_mean(whole[threshold == 0.5]),
        ap75=_mean(whole[threshold == 0.75]),
        small=_mean(precision[..., area["small"]]),
        medium=_mean(precision[..., area["medium"]]),
        large=_mean(precision[..., area["large"]]),
    )


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


def _mean(precision: Any) -> float | None:
    known = precision[precision > -1]
    return float(known.mean()) * 100.0 if known.size else None
