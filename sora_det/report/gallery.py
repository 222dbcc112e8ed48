"""Which images of a domain a report shows, and what happened on them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..evaluation.ap import Array
from .judged import Judged

KINDS = ("worst", "random", "best")


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts per image (images,) at the operating thresholds, all classes together."""

    right: Array
    wrong: Array
    missed: Array

    @property
    def f1(self) -> Array:
        """F1 per image, NaN where there is nothing to find and nothing was found."""
        total = 2 * self.right + self.wrong + self.missed
        nothing = np.full(len(total), np.nan)
        score: Array = np.divide(2.0 * self.right, total, out=nothing, where=total > 0)
        return score


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes on one image, each (n, 4) XYXY in its pixels with labels (n,).

    Attributes:
        found, missed: ground truth.
        ignored: ground truth that counts neither way.
        right, wrong: predictions whose score reaches the threshold, with scores.
        neutral: those that fell on ignored ground truth, with scores.
    """

    found: tuple[Array, Array]
    missed: tuple[Array, Array]
    ignored: tuple[Array, Array]
    right: tuple[Array, Array, Array]
    wrong: tuple[Array, Array, Array]
    neutral: tuple[Array, Array, Array]


def tally(judged: Judged) -> Tally:
    """Count right, wrong and missed boxes on every image of a domain."""
    images = len(judged.data.ids)
    counted = judged.counted.image[~judged.counted.ignore]

    def per_image(rows: Array) -> Array:
        counts: Array = np.bincount(judged.matches.image[rows], minlength=images)
        return counts

    right = per_image(judged.right & judged.shown)
    wrong = per_image(judged.shown & ~judged.right & ~judged.neutral)
    return Tally(right, wrong, np.bincount(counted, minlength=images) - right)


def pick(judged: Judged, *, count: int, seed: int) -> Mapping[str, list[int]]:
    """Choose images of a domain: indices by kind, `count` of each where there are as many.

    Worst and best by F1; of equals, the worst have more wrong and missed boxes and the best more
    right ones, then the order of the images decides. An image without anything to find and without
    a prediction has no F1 and is neither. Random ones are drawn from all images but depend only on
    the seed, the domain's name and the number of images.
    """
    counts = tally(judged)
    f1 = counts.f1
    known = np.flatnonzero(~np.isnan(f1))
    errors = (counts.wrong + counts.missed)[known]
    worst = known[np.lexsort((known, -errors, f1[known]))]
    best = known[np.lexsort((known, -counts.right[known], -f1[known]))]
    images = len(judged.data.ids)
    rng = np.random.default_rng([seed, zlib.crc32(judged.data.domain.encode())])
    drawn = rng.permutation(images)[:count]
    # Of few images, none is both among the worst and among the best.
    share = min(count, (len(known) + 1) // 2), min(count, len(known) // 2)
    return {
        "worst": worst[: share[0]].tolist(),
        "random": drawn.tolist(),
        "best": best[: share[1]].tolist(),
    }


def boxes_on(judged: Judged, image: int) -> Boxes:
    """Return what is to be drawn on one image."""
    matches, truth = judged.matches, judged.counted
    claimed = np.zeros(len(truth), dtype=bool)
    claimed[matches.truth[judged.right & judged.shown]] = True
    here, ignored = truth.image == image, truth.ignore.astype(bool)

    def of_truth(rows: Array) -> tuple[Array, Array]:
        return truth.box[rows & here], truth.label[rows & here]

    drawn = (matches.image == image) & judged.shown

    def of_detections(rows: Array) -> tuple[Array, Array, Array]:
        chosen = rows & drawn
        source = matches.source[chosen]
        return judged.data.detections.box[source], matches.label[chosen], matches.score[chosen]

    return Boxes(
        found=of_truth(claimed),
        missed=of_truth(~claimed & ~ignored),
        ignored=of_truth(ignored),
        right=of_detections(judged.right),
        wrong=of_detections(~judged.right & ~judged.neutral),
        neutral=of_detections(judged.neutral),
    )
