"""How far average precision would scatter had other images of the same kind been drawn.

The percentile bootstrap (Efron 1979): draw as many images as there are, with replacement, score
them, repeat. An image that is drawn twice counts as two images with the same detections, so that
nothing has to be matched again: every detection and box weighs as often as its image was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .ap import Array, Matches, area_under, edges, tie_ends, verdicts


def bootstrap(
    matches: Matches, *, num_images: int, replicates: int = 1000, seed: int = 0, iou: float = 0.5
) -> Array:
    """Return average precision, 0..1, of every class and their mean, for many draws of images.

    A replicate is what `score_matches` returns for images that are copied as often as they are
    drawn. The draws depend on `num_images` and `seed` alone, so two models that are scored on the
    same images are drawn alike and their replicates can be subtracted; unrelated domains need seeds
    of their own.

    Args:
        matches: of all images.
        num_images: how many there are, those without detections or boxes included.
        replicates: number of draws.
        seed: of the draws.
        iou: threshold.

    Returns:
        (replicates, classes + 1), the mean over classes last. NaN for a class without ground truth
        in a draw, and for a mean over no class.

    Raises:
        ValueError: `matches` has an image beyond `num_images`.
    """
    last = int(max(matches.image.max(initial=-1), matches.truth_image.max(initial=-1)))
    if last >= num_images:
        raise ValueError(f"num_images must be above every image's index, got {num_images}, {last}")
    right, neutral = verdicts(matches, iou=iou)
    classes = [_ranked(matches, label, right, neutral) for label in range(matches.num_classes)]
    points = matches.convention.interpolation
    draw = np.random.default_rng(seed)
    found = np.full((replicates, len(classes) + 1), np.nan)
    for row in found:
        weight = _drawn(draw, num_images)
        for label, ranked in enumerate(classes):
            total = int(weight[ranked.truth].sum())
            if total:
                row[label] = area_under(*_points(ranked, weight, total), points)
    found[:, -1] = _mean(found[:, :-1], absent=matches.convention.absent)
    return found


def interval(draws: Array, *, level: float = 0.95) -> tuple[float, float] | None:
    """Return the percentiles between which `level` of the draws lie; None if no draw exists."""
    known = draws[np.isfinite(draws)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True, eq=False)
class _Ranked:
    """One class, best score first.

    Attributes:
        image: (M,) of the detections that count, down to the last right one; what follows it
            changes no score.
        hit: (H,) image of every right one.
        seen: (H,) number of detections down to it, or to the last equal score if ties are grouped:
            of the right ones in a group, the last one's precision is then right, and the highest.
        truth: (G,) image of every counted box.
    """

    image: Array
    hit: Array
    seen: Array
    truth: Array


def _ranked(matches: Matches, label: int, right: Array, neutral: Array) -> _Ranked:
    first, last = (ends[label] for ends in edges(matches))
    rows = first + np.flatnonzero(~neutral[first:last])
    place = np.flatnonzero(right[rows])
    seen = place + 1
    if matches.convention.ties == "grouped":
        seen = tie_ends(matches.score[rows], place)
    truth = (matches.truth_label == label) & ~matches.truth_ignore
    return _Ranked(
        image=matches.image[rows[: seen.max(initial=0)]].astype(np.intp),
        hit=matches.image[rows[place]].astype(np.intp),
        seen=seen,
        truth=matches.truth_image[truth],
    )


def _drawn(draw: np.random.Generator, images: int) -> Array:
    """How often every image is drawn, (images,); 32 bits make the sums below twice as fast."""
    return np.bincount(draw.integers(0, images, images), minlength=images).astype(np.int32)


def _points(ranked: _Ranked, weight: Array, total: int) -> tuple[Array, Array]:
    """Recall and precision (H,) after every right detection of one draw.

    One that was not drawn repeats the recall before it with a precision that is no higher; of
    copies, only the last is looked at, where precision is highest.
    """
    seen = _running_sum(weight, ranked.image)[ranked.seen - 1]
    found = _running_sum(weight, ranked.hit)
    return found / total, found / np.maximum(seen, 1)


def _running_sum(weight: Array, image: Array) -> Array:
    sums = np.take(weight, image, mode="clip")  # no index is outside, and this need not look
    np.cumsum(sums, out=sums)
    return sums


def _mean(classes: Array, *, absent: str) -> Array:
    """Mean (draws,) over classes (draws, classes)."""
    if absent == "zero":
        mean: Array = np.nan_to_num(classes).mean(axis=1)
        return mean
    known = np.isfinite(classes)
    count = known.sum(axis=1)
    total = np.where(known, classes, 0.0).sum(axis=1)
    mean = np.divide(total, count, out=np.full(len(classes), np.nan), where=count > 0)
    return mean
