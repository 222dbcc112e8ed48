"""Detections of a run against the ground truth: curves, operating points, verdicts on images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.ap import (
    Array,
    Curve,
    GroundTruth,
    Matches,
    curves,
    match,
    score_matches,
    verdicts,
)
from ..evaluation.boxes import drop_small
from ..evaluation.convention import Convention
from ..evaluation.protocol import Protocol
from ..evaluation.saved import DomainData

DEFAULT_THRESHOLD = 0.5  # of classes without a right detection in the domain that decides


@dataclass(frozen=True)
class Point:
    """Where a curve is at one score threshold; fractions 0..1."""

    threshold: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True, eq=False)
class ClassCurve:
    """One class in one domain.

    Attributes:
        recall, precision: (P,) the curve as average precision reads it: at every recall the best
            precision at that recall or beyond.
        truth: number of counted boxes.
        best: the point of the best F1, None without a right detection.
        operating: the point at the threshold in use, None if nothing reaches it.
    """

    recall: Array
    precision: Array
    truth: int
    best: Point | None
    operating: Point | None


@dataclass(frozen=True, eq=False)
class Judged:
    """One domain.

    Attributes:
        data: detections and ground truth.
        counted: ground truth without what the protocol leaves out.
        matches: of the detections with `counted`, see `evaluation.ap`.
        right, neutral: (N,) verdicts in the order of `matches`.
        shown: (N,) whether the score reaches its class's threshold.
        thresholds: one per class.
        curves: one per class.
        ap50: one per class and their mean, percent.
    """

    data: DomainData
    counted: GroundTruth
    matches: Matches
    right: Array
    neutral: Array
    shown: Array
    thresholds: tuple[float, ...]
    curves: tuple[ClassCurve, ...]
    ap50: tuple[float | None, ...]


def judge(domains: Sequence[DomainData], protocol: Protocol) -> dict[str, Judged]:
    """Judge the domains of one run by the rules of its protocol.

    The first domain, the source, decides on one score threshold per class: that of the best F1
    there. It is used in every domain, as a detector in use has no labels to choose another by.
    """
    raw = {data.domain: _match(data, protocol) for data in domains}
    thresholds: tuple[float, ...] = ()
    judged = {}
    for data in domains:
        counted, matches = raw[data.domain]
        lines = curves(matches, iou=protocol.iou)
        best = [_best(line) for line in lines]
        if not thresholds:
            thresholds = tuple(p.threshold if p else DEFAULT_THRESHOLD for p in best)
        right, neutral = verdicts(matches, iou=protocol.iou)
        result = score_matches(matches, iou=protocol.iou)
        judged[data.domain] = Judged(
            data=data,
            counted=counted,
            matches=matches,
            right=right,
            neutral=neutral,
            shown=matches.score >= np.array(thresholds)[matches.label],
            thresholds=thresholds,
            curves=tuple(
                ClassCurve(*_envelope(line), line.ground_truth, top, _at(line, threshold))
                for line, top, threshold in zip(lines, best, thresholds, strict=True)
            ),
            ap50=(*(_percent(c.ap) for c in result.classes), _percent(result.mean)),
        )
    return judged


def disagreements(
    judged: Mapping[str, Judged], scores: Mapping[str, Sequence[float | None]]
) -> list[str]:
    """Name the domains whose detections do not give the scores of the results.

    Args:
        judged: by domain.
        scores: AP50 of every class in percent, by domain.
    """
    wrong = []
    for domain, one in judged.items():
        for ours, theirs in zip(one.ap50, scores[domain], strict=False):
            if (ours is None) != (theirs is None) or abs((ours or 0) - (theirs or 0)) > 0.01:
                wrong.append(domain)
                break
    return wrong


def _match(data: DomainData, protocol: Protocol) -> tuple[GroundTruth, Matches]:
    rule = Convention(
        interpolation=protocol.interpolation,
        legacy_pixel=protocol.pixel == "inclusive",
        strict=protocol.strict,
        absent=protocol.absent_classes,
    )
    counted = drop_small(data.truth, protocol.min_side)
    return counted, match(data.detections, counted, num_classes=len(data.classes), convention=rule)


def _best(curve: Curve) -> Point | None:
    """Return the point of the best F1, at the highest threshold of equals."""
    # A threshold cannot part equal scores: only the last of them is a point.
    ends = np.flatnonzero(np.append(curve.score[1:] != curve.score[:-1], True)[: len(curve.score)])
    recall, precision = curve.recall[ends], curve.precision[ends]
    f1 = 2 * recall * precision / np.maximum(recall + precision, 1e-12)
    if not len(f1) or not f1.max() > 0:
        return None
    row = int(f1.argmax())
    return Point(float(curve.score[ends[row]]), float(precision[row]), float(recall[row]))


def _at(curve: Curve, threshold: float) -> Point | None:
    reached = int((curve.score >= threshold).sum())
    if not reached or not curve.ground_truth:
        return None
    return Point(threshold, float(curve.precision[reached - 1]), float(curve.recall[reached - 1]))


def _envelope(curve: Curve) -> tuple[Array, Array]:
    """Return the corners of the curve made monotone from the right, from recall 0 on."""
    if not curve.ground_truth or not len(curve.recall) or not curve.recall[-1] > 0:
        return np.empty(0), np.empty(0)
    best = np.maximum.accumulate(curve.precision[::-1])[::-1]
    grows = np.diff(curve.recall, prepend=0.0) > 0  # precision at the recall where it is reached
    recall, precision = curve.recall[grows], best[grows]
    corner = np.append(precision[1:] != precision[:-1], True)  # the last recall of each level
    recall, precision = recall[corner], precision[corner]
    left = np.concatenate([[0.0], recall[:-1]])
    steps = np.stack([left, recall], axis=1).ravel(), np.repeat(precision, 2)
    return steps


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100.0 * fraction
