"""Whether scores are probabilities: detection calibration (Küppers et al., CVPRW 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .ap import Matches, verdicts


@dataclass(frozen=True)
class Bin:
    """Detections whose score lies in one interval of equal width.

    Attributes:
        count: number of detections.
        score: their mean score, None without any.
        precision: share of them that found a box, 0..1, None without any.
    """

    count: int
    score: float | None
    precision: float | None


def reliability(
    matches: Matches, *, iou: float = 0.5, bins: int = 10, min_score: float = 0.0
) -> tuple[Bin, ...]:
    """Return mean score and precision by score, over all classes.

    Args:
        matches: detections on ignored boxes are left out.
        iou: threshold of a find.
        bins: intervals of equal width between 0 and 1; an upper end belongs to the bin below it.
        min_score: detections with lower scores are left out.

    Raises:
        ValueError: less than one bin, or scores outside 0..1.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    right, neutral = verdicts(matches, iou=iou)
    kept = ~neutral & (matches.score >= min_score)
    score, hit = matches.score[kept].astype(np.float64), right[kept]
    if len(score) and not (score.min() >= 0 and score.max() <= 1):
        raise ValueError(f"scores must be 0..1 to be probabilities, got up to {score.max()}")
    place = np.clip(np.ceil(score * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = np.bincount(place, score, bins), np.bincount(place, hit.astype(float), bins)
    return tuple(
        Bin(int(n), total / n, hits / n) if n else Bin(0, None, None)
        for n, total, hits in zip(counts.tolist(), *(s.tolist() for s in sums), strict=True)
    )


def calibration_error(
    matches: Matches, *, iou: float = 0.5, bins: int = 10, min_score: float = 0.0
) -> float | None:
    """Return D-ECE, 0..1: the mean of |precision - score| over bins, by their counts.

    Only the score counts, not where a box lies. None without any detection. Arguments as for
    `reliability`.
    """
    found = reliability(matches, iou=iou, bins=bins, min_score=min_score)
    total = sum(b.count for b in found)
    gaps = [
        b.count * abs(b.precision - b.score)
        for b in found
        if b.precision is not None and b.score is not None
    ]
    return sum(gaps) / total if total else None
