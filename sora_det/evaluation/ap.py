"""Average precision for boxes, in the manner of Pascal VOC, by the rules of a `Convention`.

All images of a domain are handled at once as flat arrays; no Python loop runs over boxes. VOC's
rule makes that possible: a detection may only take the ground truth it overlaps best, so the
overlaps are needed once, whatever the number of IoU thresholds, and the winner of a ground truth
is simply the first detection that asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .convention import DIVERSE_WEATHER, Convention

Array = npt.NDArray[Any]

PAIRS_AT_ONCE = 1_000_000  # bounds memory: about 150 bytes a pair


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of many images, one row each, in any order.

    Attributes:
        image: (N,) integers >= 0, the index of the image.
        label: (N,) integers in 0..classes-1.
        score: (N,) finite floats.
        box: (N, 4) finite floats x1, y1, x2, y2 in pixels of the original image.
    """

    image: Array
    label: Array
    score: Array
    box: Array

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Ground truth of many images, one row each.

    Attributes:
        image, label, box: as in `Detections`.
        ignore: (G,) booleans. An ignored box counts neither as found nor as missed, and
            detections that overlap it best count neither as right nor as wrong.
    """

    image: Array
    label: Array
    box: Array
    ignore: Array

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, eq=False)
class Matches:
    """Detections in ranking order, each with its best ground truth; made by `match`.

    Attributes:
        num_classes: number of classes.
        convention: the rules it was made with.
        image, label, score: (N,) as in `Detections`, sorted by class, then by falling score.
        source: (N,) row of each in the `Detections` given.
        truth: (N,) row of the best ground truth of the same image and class, -1 without one.
        iou: (N,) overlap with it, 0 without one.
        truth_label, truth_ignore: (G,) copied from the `GroundTruth`.
    """

    num_classes: int
    convention: Convention
    image: Array
    label: Array
    score: Array
    source: Array
    truth: Array
    iou: Array
    truth_label: Array
    truth_ignore: Array


@dataclass(frozen=True, eq=False)
class Curve:
    """One class: the precision-recall curve, best score first.

    Attributes:
        score, recall, precision: (P,) one entry per ranked detection (per distinct score if ties
            are grouped).
        ground_truth: number of counted boxes. With none, recall is 0 throughout.
        detections: number of detections, those on ignored boxes included.
    """

    score: Array
    recall: Array
    precision: Array
    ground_truth: int
    detections: int


@dataclass(frozen=True)
class ClassAP:
    """Average precision of one class in 0..1, None for a class without ground truth."""

    ap: float | None
    ground_truth: int
    detections: int


@dataclass(frozen=True)
class APResult:
    """Average precision at one IoU threshold; `mean` (0..1) is None if no class counts."""

    iou: float
    classes: tuple[ClassAP, ...]
    mean: float | None


def average_precision(
    detections: Detections,
    truth: GroundTruth,
    *,
    num_classes: int,
    iou: float = 0.5,
    convention: Convention = DIVERSE_WEATHER,
) -> APResult:
    """Score detections against ground truth at one IoU threshold.

    Raises:
        ValueError: arrays of differing lengths, labels outside 0..num_classes-1, negative image
            indices, or numbers that are not finite.
    """
    matches = match(detections, truth, num_classes=num_classes, convention=convention)
    return score_matches(matches, iou=iou)


def match(
    detections: Detections,
    truth: GroundTruth,
    *,
    num_classes: int,
    convention: Convention = DIVERSE_WEATHER,
) -> Matches:
    """Rank the detections and find the ground truth that each overlaps best.

    This is the costly part; `score_matches` and `curves` then read it at any threshold.

    Raises:
        ValueError: as `average_precision`.
    """
    _check(detections, truth, num_classes)
    scores, boxes = detections.score, detections.box
    if convention.score_decimals is not None:
        scores = np.round(scores.astype(np.float64), convention.score_decimals)
    if convention.box_decimals is not None:
        boxes = np.round(boxes.astype(np.float64), convention.box_decimals)
    order = np.lexsort((detections.image, -scores, detections.label))  # stable; last key leads
    image, label, boxes = detections.image[order], detections.label[order], boxes[order]
    best, overlap = _best_truth(image, label, boxes, truth, num_classes, convention)
    return Matches(
        num_classes=num_classes,
        convention=convention,
        image=image,
        label=label,
        score=scores[order],
        source=order,
        truth=best,
        iou=overlap,
        truth_label=truth.label,
        truth_ignore=truth.ignore.astype(bool),
    )


def score_matches(matches: Matches, *, iou: float = 0.5) -> APResult:
    """Average precision of every class and their mean at one IoU threshold."""
    rule = matches.convention
    area = _eleven_points if rule.interpolation == "11point" else _area
    classes = tuple(
        ClassAP(
            ap=area(curve.recall, curve.precision) if curve.ground_truth else None,
            ground_truth=curve.ground_truth,
            detections=curve.detections,
        )
        for curve in curves(matches, iou=iou)
    )
    counted = [c.ap or 0.0 for c in classes if c.ap is not None or rule.absent == "zero"]
    return APResult(iou, classes, float(np.mean(counted)) if counted else None)


def curves(matches: Matches, *, iou: float = 0.5) -> tuple[Curve, ...]:
    """The precision-recall curve of every class at one IoU threshold.

    Raises:
        ValueError: a threshold outside 0..1.
    """
    right, neutral = verdicts(matches, iou=iou)
    wrong = ~(right | neutral)
    edges = np.searchsorted(matches.label, np.arange(matches.num_classes + 1))
    counted = matches.truth_label[~matches.truth_ignore]
    totals = np.bincount(counted, minlength=matches.num_classes)
    out = []
    for first, last, total in zip(edges[:-1], edges[1:], totals, strict=True):
        found, false = np.cumsum(right[first:last]), np.cumsum(wrong[first:last])
        scores = matches.score[first:last]
        if matches.convention.ties == "grouped":
            keep = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
            scores, found, false = scores[keep], found[keep], false[keep]
        out.append(
            Curve(
                score=scores,
                recall=found / max(int(total), 1),
                precision=found / np.maximum(found + false, 1),
                ground_truth=int(total),
                detections=int(last - first),
            )
        )
    return tuple(out)


def verdicts(matches: Matches, *, iou: float = 0.5) -> tuple[Array, Array]:
    """Judge every ranked detection at one IoU threshold.

    Returns:
        Two (N,) boolean arrays in the order of `matches`: found a counted ground truth first, and
        fell on an ignored one. All others are false positives, second finds included.

    Raises:
        ValueError: a threshold outside 0..1.
    """
    if not 0.0 <= iou <= 1.0:
        raise ValueError(f"iou must be in 0..1, got {iou}")
    hit = matches.iou > iou if matches.convention.strict else matches.iou >= iou
    hit &= matches.truth >= 0
    neutral = np.zeros(len(hit), dtype=bool)
    neutral[hit] = matches.truth_ignore[matches.truth[hit]]
    rank = np.flatnonzero(hit & ~neutral)
    winner = np.full(len(matches.truth_label), len(hit))  # rank of the first to ask for a truth
    np.minimum.at(winner, matches.truth[rank], rank)
    right = np.zeros(len(hit), dtype=bool)
    right[winner[winner < len(hit)]] = True
    return right, neutral


def _best_truth(
    image: Array,
    label: Array,
    boxes: Array,
    truth: GroundTruth,
    num_classes: int,
    convention: Convention,
) -> tuple[Array, Array]:
    """Row (N,) and overlap (N,) of the best ground truth; -1 and 0 where there is none."""
    key = image.astype(np.int64) * num_classes + label.astype(np.int64)
    truth_key = truth.image.astype(np.int64) * num_classes + truth.label.astype(np.int64)
    second = truth.ignore.astype(bool) if convention.ignored_last else np.zeros(len(truth), bool)
    order = np.lexsort((second, truth_key))
    truth_key, truth_box = truth_key[order], truth.box[order]
    start = np.searchsorted(truth_key, key, side="left")
    count = np.searchsorted(truth_key, key, side="right") - start

    best = np.full(len(key), -1, dtype=np.int64)
    overlap = np.zeros(len(key), dtype=np.float64)
    rows = np.flatnonzero(count)
    for part in _chunks(rows, count[rows]):
        length = count[part]
        begin = np.cumsum(length) - length  # (rows,) where the pairs of each row begin
        pair = np.arange(int(length.sum()))
        candidate = pair - np.repeat(begin - start[part], length)
        iou = pairwise_iou(
            boxes[np.repeat(part, length)], truth_box[candidate], convention.legacy_pixel
        )
        top = np.maximum.reduceat(iou, begin)
        first = np.where(iou == np.repeat(top, length), pair, len(pair))
        overlap[part] = top
        best[part] = order[candidate[np.minimum.reduceat(first, begin)]]
    return best, overlap


def pairwise_iou(a: Array, b: Array, legacy_pixel: bool = False) -> Array:
    """IoU of row i of `a` with row i of `b`, both (P, 4) x1, y1, x2, y2; 0 for an empty union."""
    more = 1.0 if legacy_pixel else 0.0
    a, b = a.astype(np.float64).T, b.astype(np.float64).T  # (4, P)
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0]) + more
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1]) + more
    shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    union = (a[2] - a[0] + more) * (a[3] - a[1] + more)
    union += (b[2] - b[0] + more) * (b[3] - b[1] + more)
    union -= shared
    iou: Array = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def _chunks(rows: Array, counts: Array) -> Iterator[Array]:
    """Cut `rows` where the running sum of `counts` passes a multiple of PAIRS_AT_ONCE."""
    if not len(rows):
        return
    block = (np.cumsum(counts) - counts) // PAIRS_AT_ONCE
    yield from np.split(rows, np.flatnonzero(np.diff(block)) + 1)


def _eleven_points(recall: Array, precision: Array) -> float:
    """Mean over recall levels of the best precision at that recall or beyond.

    The levels are 0.1 * k in floating point, as in both references: 0.1 * 3 lies just above 0.3,
    so a recall of exactly 3/10 does not reach the fourth level (likewise 6/10 and 7/10).
    """
    ceiling = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    levels = np.arange(11) * 0.1
    return float(ceiling[np.searchsorted(recall, levels, side="left")].sum() / 11)


def _area(recall: Array, precision: Array) -> float:
    """Area under the curve made monotone from the right."""
    ceiling = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * ceiling).sum())


def _check(detections: Detections, truth: GroundTruth, num_classes: int) -> None:
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    columns = {"score": detections.score}
    _check_rows("detections", detections.image, detections.label, detections.box, columns)
    _check_rows("ground truth", truth.image, truth.label, truth.box, {"ignore": truth.ignore})
    if not np.isfinite(detections.score).all():
        row = int(np.flatnonzero(~np.isfinite(detections.score))[0])
        raise ValueError(f"scores must be finite, got {detections.score[row]} in detection {row}")
    for what, rows in (("detections", detections), ("ground truth", truth)):
        if not np.isfinite(rows.box).all():
            row = int(np.flatnonzero(~np.isfinite(rows.box).all(axis=1))[0])
            raise ValueError(f"boxes of {what} must be finite, got {rows.box[row]} in row {row}")
        if len(rows) and not (0 <= rows.label.min() and rows.label.max() < num_classes):
            raise ValueError(
                f"labels of {what} must be 0..{num_classes - 1}, "
                f"got {rows.label.min()}..{rows.label.max()}"
            )
        if len(rows) and rows.image.min() < 0:
            raise ValueError(f"image indices of {what} must be >= 0, got {rows.image.min()}")


def _check_rows(
    what: str, image: Array, label: Array, box: Array, columns: dict[str, Array]
) -> None:
    rows = len(image)
    for name, column in {"image": image, "label": label, **columns}.items():
        if column.shape != (rows,):
            raise ValueError(f"{name} of {what} must have shape ({rows},), got {column.shape}")
    if box.shape != (rows, 4):
        raise ValueError(f"box of {what} must have shape ({rows}, 4), got {box.shape}")
    for name, column in (("image", image), ("label", label)):
        if column.dtype.kind not in "iu":
            raise ValueError(f"{name} of {what} must be integers, got {column.dtype}")
