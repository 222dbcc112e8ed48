"""Average precision for boxes, in the manner of Pascal VOC, by the rules of a `Convention`.

All images of a domain are handled at once as flat arrays; no Python loop runs over boxes. VOC's
rule makes that possible: a detection may only take the ground truth it overlaps best, so the
overlaps are needed once, whatever the number of IoU thresholds, and the winner of a ground truth
is simply the first detection that asks for it. Precision is highest where recall rises, so a score
is read from the right detections alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .boxes import Array, Detections, GroundTruth, check_boxes
from .convention import DIVERSE_WEATHER, Convention
from .overlap import best_truth, groups, ranking


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
        truth_image, truth_label, truth_ignore: (G,) of the `GroundTruth`.
    """

    num_classes: int
    convention: Convention
    image: Array
    label: Array
    score: Array
    source: Array
    truth: Array
    iou: Array
    truth_image: Array
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
    check_boxes(detections, truth, num_classes)
    scores, box, truth_box = detections.score, detections.box, truth.box
    if convention.voc_file:
        corner = np.array([1, 1, 0, 0])
        box, truth_box = box + corner.astype(box.dtype), truth_box + corner.astype(truth_box.dtype)
    if convention.score_decimals is not None:
        scores = np.round(scores.astype(np.float64), convention.score_decimals)
    if convention.box_decimals is not None:
        box = np.round(box.astype(np.float64), convention.box_decimals)
    ignore = truth.ignore.astype(bool)
    first = np.argsort(ignore & convention.ignored_last, kind="stable")
    grouped, start, size = groups(
        detections.image, detections.label, truth.image[first], truth.label[first], num_classes
    )
    row = first[grouped]  # of the ground truth, by image and class
    place, iou = best_truth(box, truth_box[row], start, size, legacy_pixel=convention.legacy_pixel)
    place[size > 0] = row[place[size > 0]]
    order = ranking(detections.image, detections.label, scores)
    return Matches(
        num_classes=num_classes,
        convention=convention,
        image=detections.image[order],
        label=detections.label[order],
        score=scores[order],
        source=order,
        truth=place[order],
        iou=iou[order],
        truth_image=truth.image,
        truth_label=truth.label,
        truth_ignore=ignore,
    )


def score_matches(matches: Matches, *, iou: float = 0.5) -> APResult:
    """Average precision of every class and their mean at one IoU threshold.

    Raises:
        ValueError: a threshold outside 0..1.
    """
    rule = matches.convention
    rows, right, neutral = _hits(matches, iou)
    totals = counted(matches)
    classes = []
    for first, last, total in zip(*edges(matches), totals, strict=True):
        part = slice(*np.searchsorted(rows, (first, last)))
        place, found, skipped = rows[part] - first, right[part].cumsum(), neutral[part].cumsum()
        at = np.flatnonzero(right[part])
        end = place[at] + 1  # detections down to each right one, which is all that is read
        if rule.ties == "grouped":
            end = tie_ends(matches.score[first:last], place[at])
            at = np.searchsorted(place, end) - 1
        recall, precision = found[at] / max(total, 1), found[at] / (end - skipped[at])
        ap = area_under(recall, precision, rule.interpolation) if total else None
        classes.append(ClassAP(ap=ap, ground_truth=total, detections=last - first))
    known = [c.ap or 0.0 for c in classes if c.ap is not None or rule.absent == "zero"]
    return APResult(iou, tuple(classes), float(np.mean(known)) if known else None)


def curves(matches: Matches, *, iou: float = 0.5) -> tuple[Curve, ...]:
    """The precision-recall curve of every class at one IoU threshold.

    Raises:
        ValueError: a threshold outside 0..1.
    """
    right, neutral = verdicts(matches, iou=iou)
    wrong = ~(right | neutral)
    out = []
    for first, last, total in zip(*edges(matches), counted(matches), strict=True):
        found, false = np.cumsum(right[first:last]), np.cumsum(wrong[first:last])
        scores = matches.score[first:last]
        if matches.convention.ties == "grouped":
            keep = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
            scores, found, false = scores[keep], found[keep], false[keep]
        out.append(
            Curve(
                score=scores,
                recall=found / max(total, 1),
                precision=found / np.maximum(found + false, 1),
                ground_truth=total,
                detections=last - first,
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
    rows, *found = _hits(matches, iou)
    right, neutral = np.zeros((2, len(matches.score)), dtype=bool)
    right[rows], neutral[rows] = found
    return right, neutral


def edges(matches: Matches) -> tuple[list[int], list[int]]:
    """First row of every class, and the row after its last."""
    at: list[int] = np.searchsorted(matches.label, np.arange(matches.num_classes + 1)).tolist()
    return at[:-1], at[1:]


def counted(matches: Matches) -> list[int]:
    """Ground truth of every class, ignored boxes left out."""
    labels = matches.truth_label[~matches.truth_ignore]
    totals: list[int] = np.bincount(labels, minlength=matches.num_classes).tolist()
    return totals


def tie_ends(scores: Array, place: Array) -> Array:
    """Number of `scores`, which fall, that are at least as high as the one at each place."""
    ends: Array = len(scores) - np.searchsorted(scores[::-1], scores[place], side="left")
    return ends


def area_under(recall: Array, precision: Array, interpolation: Literal["11point", "area"]) -> float:
    """Average precision (0..1) from the points (P,) where recall rises, best score first."""
    area = _eleven_points if interpolation == "11point" else _area
    return area(recall, precision)


def _hits(matches: Matches, iou: float) -> tuple[Array, Array, Array]:
    """Rows (H,) that overlap a ground truth enough, and which are right and which neutral."""
    if not 0.0 <= iou <= 1.0:
        raise ValueError(f"iou must be in 0..1, got {iou}")
    hit = matches.iou > iou if matches.convention.strict else matches.iou >= iou
    rows = np.flatnonzero(hit & (matches.truth >= 0))
    truth = matches.truth[rows]
    neutral: Array = matches.truth_ignore[truth]
    winner = np.empty(len(matches.truth_label), dtype=np.int64)
    winner[truth[::-1]] = rows[::-1]  # written last, the first to ask for a truth stays
    right = (winner[truth] == rows) & ~neutral
    return rows, right, neutral


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
