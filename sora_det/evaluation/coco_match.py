"""Which detection finds which box by COCO's rules, at all IoU thresholds and box sizes at once.

Unlike VOC's, a COCO detection takes the best box that is still free, so the detections of an image
and class go in turn. But no image or class waits for another: the first detections of all of them
take their boxes in one step, then all second ones, and so on. Only detections that overlap a box by
half take part, which few do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .boxes import Array, Detections, GroundTruth
from .overlap import blocks, groups, touching

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCO's own, to the bit
SIZES = ("all", "small", "medium", "large")
LOW, HIGH = np.array([(0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10)]).T  # square pixels
WRONG, RIGHT, NEUTRAL = range(3)
PAIRS_AT_ONCE = 1 << 14  # times some 500 bytes


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Detections that overlap a box by half, and what they are worth.

    Attributes:
        row: (D,) rising, into the detections.
        verdict: (D, sizes, thresholds) of WRONG, RIGHT and NEUTRAL. NEUTRAL ones took a box that
            does not count; a WRONG one does not count either where its own size is not asked for.
    """

    row: Array
    verdict: Array


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Detections with the boxes they overlap by half, turn by turn.

    Attributes:
        turn: (P,) how many such detections of the same image and class come before.
        row: (P,) of the detection; its pairs are neighbours.
        truth: (P,) row of the box; of those of a detection the best comes last.
        iou: (P,)
    """

    turn: Array
    row: Array
    truth: Array
    iou: Array


def judge(found: Detections, truth: GroundTruth, num_classes: int) -> Verdicts:
    """Let the detections take their boxes; those of an image and class stand in ranking order."""
    pairs = _pairs(found, truth, num_classes)
    crowd = truth.ignore.astype(bool)
    ignored = crowd[:, None] | ~in_size(columns(truth.box)[4])  # (G, sizes)
    free = np.ones((len(truth), len(SIZES), len(THRESHOLDS)), dtype=bool)
    kept = [(np.zeros(0, np.int64), np.zeros((0, *free.shape[1:]), np.int8))]
    for part in _steps(pairs):
        row, box = pairs.row[part], pairs.truth[part]
        begin = np.flatnonzero(np.diff(row, prepend=-1))  # of the pairs of each detection
        # A counted box is better than any ignored one, then the pair that comes later.
        value = np.arange(1, len(row) + 1)[:, None] + len(row) * ~ignored[box]  # (P, sizes)
        may = free[box] & (pairs.iou[part, None] >= THRESHOLDS)[:, None]
        best = np.maximum.reduceat(np.where(may, value[..., None], 0), begin)
        taken = box[(best - 1) % len(row)]  # (D, sizes, thresholds), nonsense where best is 0
        verdict = np.where(best > len(row), RIGHT, np.where(best > 0, NEUTRAL, WRONG))
        kept.append((row[begin], verdict.astype(np.int8)))
        _, size, level = at = np.nonzero((best > 0) & ~crowd[taken])
        free[taken[at], size, level] = False
    row, verdict = (np.concatenate(column) for column in zip(*kept, strict=True))
    order = np.argsort(row)
    return Verdicts(row[order], verdict[order])


def in_size(area: Array) -> Array:
    """(N, sizes) whether an area lies within each of `SIZES`, their limits included."""
    inside: Array = (area[:, None] >= LOW) & (area[:, None] <= HIGH)
    return inside


def columns(box: Array) -> Array:
    """x1, y1, x2, y2, area as (5, N) float64, by way of COCO's x, y, width, height."""
    x1, y1, x2, y2 = box.T.astype(np.float64)
    width, height = x2 - x1, y2 - y1
    return np.stack([x1, y1, x1 + width, y1 + height, width * height])


def _pairs(found: Detections, truth: GroundTruth, num_classes: int) -> _Pairs:
    order, start, size = groups(found.image, found.label, truth.image, truth.label, num_classes)
    boxes, crowd = columns(truth.box[order]), truth.ignore.astype(bool)[order]
    kept = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for part in blocks(size):
        mine = columns(found.box[part])
        for near, place, shared in touching(mine, boxes, start[part], size[part]):
            union = mine[4, near] + boxes[4, place] - shared
            union = np.where(crowd[place], mine[4, near], union)
            iou = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
            good = iou >= THRESHOLDS[0]
            kept.append((part[near[good]], place[good], iou[good]))
    row, place, iou = (np.concatenate(column) for column in zip(*kept, strict=True))
    one, which = np.unique(row, return_inverse=True)
    turn = place_in_group(found.image[one].astype(np.int64) * num_classes + found.label[one])
    by_turn = np.lexsort((place, iou, row, turn[which]))
    return _Pairs(*(c[by_turn] for c in (turn[which], row, order[place], iou)))


def place_in_group(key: Array) -> Array:
    """How many rows before each (N,) have the same key."""
    order = np.argsort(key, kind="stable")
    begin = np.flatnonzero(np.diff(key[order], prepend=-1))
    size = np.diff(begin, append=len(key))
    place = np.empty(len(key), dtype=np.int64)
    place[order] = np.arange(len(key)) - np.repeat(begin, size)
    return place


def _steps(pairs: _Pairs) -> Iterator[slice]:
    """Cut the pairs into turns, and long turns between two detections."""
    new = np.diff(pairs.row, prepend=-1) != 0
    begin = np.flatnonzero(new)  # of every detection
    turn, share = pairs.turn[begin], begin // PAIRS_AT_ONCE
    cut = np.flatnonzero((np.diff(turn) != 0) | (np.diff(share) != 0)) + 1
    ends = [*begin[cut].tolist(), len(pairs.row)]
    for first, last in pairwise([0, *ends]):
        if last > first:
            yield slice(first, last)
