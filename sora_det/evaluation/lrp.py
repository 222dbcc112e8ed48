"""Localisation-recall-precision error (Oksuz et al., ECCV 2018, arXiv 1807.01696)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .ap import Array, Matches, verdicts


@dataclass(frozen=True)
class OptimalLRP:
    """The error at the score threshold where it is least, fractions 0..1; 1 is the worst.

    Attributes:
        error: the whole.
        localisation: mean of 1 - IoU over the boxes found, None if none is.
        false_positives: 1 - precision, None without any detection above the threshold.
        false_negatives: 1 - recall.
        threshold: lowest score that counts, None if it is best to give no detection at all.
    """

    error: float
    localisation: float | None
    false_positives: float | None
    false_negatives: float
    threshold: float | None


def optimal_lrp(matches: Matches, *, iou: float = 0.5) -> tuple[OptimalLRP | None, ...]:
    """Return the optimal error of every class, None for one without ground truth.

    With N_TP, N_FP and N_FN boxes found, false and missed, the error is
    (sum over found of (1 - IoU) / (1 - iou) + N_FP + N_FN) / (N_TP + N_FP + N_FN). Matching is that
    of `matches`; detections on ignored boxes count neither way.

    Raises:
        ValueError: `iou` is not below 1.
    """
    if not iou < 1:
        raise ValueError(f"iou must be below 1, got {iou}")
    right, neutral = verdicts(matches, iou=iou)
    counted = matches.truth_label[~matches.truth_ignore]
    totals = np.bincount(counted, minlength=matches.num_classes)
    found = []
    for label, total in enumerate(totals):
        rows = (matches.label == label) & ~neutral
        columns = (matches.score[rows], right[rows], matches.iou[rows])
        found.append(_least(*columns, int(total), iou) if total else None)
    return tuple(found)


def _least(score: Array, right: Array, overlap: Array, total: int, iou: float) -> OptimalLRP:
    """Try every threshold; equal scores stand or fall together."""
    last = np.append(score[1:] != score[:-1], True)[: len(score)]
    true = np.cumsum(right)[last]
    false = np.cumsum(~right)[last]
    lost = np.cumsum(np.where(right, 1.0 - overlap, 0.0))[last]
    error = (lost / (1.0 - iou) + false + (total - true)) / (total + false)
    if not len(error) or error.min() >= 1.0:
        return OptimalLRP(1.0, None, None, 1.0, None)
    at = int(error.argmin())
    hits, wrong = int(true[at]), int(false[at])
    return OptimalLRP(
        error=float(error[at]),
        localisation=float(lost[at]) / hits if hits else None,
        false_positives=wrong / (hits + wrong),
        false_negatives=1.0 - hits / total,
        threshold=float(score[last][at]),
    )
