"""COCO's box metrics on arrays: the numbers of pycocotools without its loops and dictionaries."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .boxes import Array, Detections, GroundTruth, check_boxes
from .coco_match import NEUTRAL, RIGHT, SIZES, THRESHOLDS, columns, in_size, judge, place_in_group
from .overlap import ranking

MAX_DETECTIONS = 100  # per image and class, COCO's own limit
RECALLS = np.linspace(0.0, 1.0, 101)


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

    Raises:
        ValueError: as `average_precision`, and for an image index that is too large.
    """
    whole = coco_ap(detections, truth, num_images=num_images, num_classes=num_classes)
    at = np.round(THRESHOLDS, 2)
    return CocoScores(
        ap=_mean(whole[:, 0]),
        ap50=_mean(whole[:, 0, at == 0.5]),
        ap75=_mean(whole[:, 0, at == 0.75]),
        small=_mean(whole[:, SIZES.index("small")]),
        medium=_mean(whole[:, SIZES.index("medium")]),
        large=_mean(whole[:, SIZES.index("large")]),
    )


def coco_ap(
    detections: Detections, truth: GroundTruth, *, num_images: int, num_classes: int
) -> Array:
    """Return average precision, 0..1, by class, `SIZES` and `THRESHOLDS`; NaN without ground truth.

    Arguments and errors as for `coco_scores`.
    """
    check_boxes(detections, truth, num_classes)
    last = int(max(detections.image.max(initial=-1), truth.image.max(initial=-1)))
    if last >= num_images:
        raise ValueError(f"num_images must be above every image's index, got {num_images}, {last}")
    found = _ranked(detections, num_classes)
    judged = judge(found, truth, num_classes)
    counts = in_size(columns(truth.box)[4]) & ~truth.ignore.astype(bool)[:, None]
    ap = np.full((num_classes, len(SIZES), len(THRESHOLDS)), np.nan)
    edges = np.searchsorted(found.label, np.arange(num_classes + 1))
    for label, (first, end) in enumerate(pairwise(edges)):
        total = counts[truth.label == label].sum(axis=0)  # (sizes,)
        part = slice(*np.searchsorted(judged.row, (first, end)))
        inside = in_size(columns(found.box[first:end])[4])
        place, verdict = judged.row[part] - first, judged.verdict[part]
        for size in np.flatnonzero(total):
            points = _points(place, verdict[:, size], inside[:, size])
            ap[label, size] = [_area(true / total[size], precision) for true, precision in points]
    return ap


def _ranked(detections: Detections, num_classes: int) -> Detections:
    """Sort by class and falling score, and leave out what is beyond the limit in its image."""
    order = ranking(detections.image, detections.label, detections.score)
    key = detections.image[order].astype(np.int64) * num_classes + detections.label[order]
    _, count = np.unique(key, return_counts=True)
    if count.max(initial=0) > MAX_DETECTIONS:
        order = order[place_in_group(key) < MAX_DETECTIONS]
    return Detections(*(column[order] for column in vars(detections).values()))


def _points(place: Array, verdict: Array, inside: Array) -> list[tuple[Array, Array]]:
    """Number found and precision after every right detection of one class and size.

    Args:
        place: (D,) of the detections with a verdict, among all of the class.
        verdict: (D, thresholds)
        inside: (N,) whether each detection has the size that is asked for; if it finds nothing, it
            counts as wrong only then.
    """
    before = np.cumsum(inside)[place]
    mine = inside[place]
    found = []
    for verdicts in verdict.T:
        right, neutral = verdicts == RIGHT, verdicts == NEUTRAL
        seen = before + np.cumsum((right & ~mine).astype(int) - (neutral & mine))
        true = np.arange(1, int(right.sum()) + 1)
        found.append((true, true / seen[right]))
    return found


def _area(recall: Array, precision: Array) -> float:
    """Mean over 101 recall levels of the best precision at that recall or beyond."""
    ceiling = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(ceiling[np.searchsorted(recall, RECALLS, side="left")].mean())


def _mean(values: Array) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) * 100.0 if known.size else None
