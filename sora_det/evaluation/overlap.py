"""Ranking detections and finding the ground truth that each overlaps best, on flat arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .boxes import Array

ROWS_AT_ONCE = 1 << 15  # few enough that a block's columns stay in the processor's cache


def ranking(image: Array, label: Array, score: Array) -> Array:
    """Rows (N,) by class, then falling score, then image, then input order.

    float32 scores take a short cut: class, score and place in the input fit into one 64-bit number,
    and sorting numbers is an order of magnitude faster than sorting rows by three keys.
    """
    rows = len(score)
    places = max(rows - 1, 1).bit_length()
    classes = int(label.max(initial=0)).bit_length()
    if score.dtype != np.float32 or places + 32 + classes > 64:
        order: Array = np.lexsort((image, -score, label))  # stable; the last key leads
        return order
    first = None  # input rows by image, if they are not so already
    if (image[1:] < image[:-1]).any():
        first = np.argsort(image, kind="stable")
        label, score = label[first], score[first]
    bits = (-score + np.float32(0)).view(np.uint32)  # adding 0 makes -0 and 0 the same number
    # Read as integers, floats keep their order if negative ones are turned over.
    negative = (bits >> 31).astype(bool)
    bits = np.where(negative, ~bits, bits | np.uint32(1 << 31))
    key = label.astype(np.uint64) << np.uint64(32)
    key |= bits
    key <<= np.uint64(places)
    key |= np.arange(rows, dtype=np.uint64)
    key.sort()
    key &= np.uint64((1 << places) - 1)
    order = key.astype(np.int64)
    return order if first is None else first[order]


def groups(
    image: Array, label: Array, other_image: Array, other_label: Array, num_classes: int
) -> tuple[Array, Array, Array]:
    """Find for every row the rows of another table with its image and class.

    Returns:
        The order (G,) that puts the other table's groups together, input order within; and for
        every row the start (N,) of its group in that order and its size (N,), 0 without one.
    """
    key = image.astype(np.int64) * num_classes + label
    other = other_image.astype(np.int64) * num_classes + other_label
    order = np.argsort(other, kind="stable")
    known, begin, size = np.unique(other[order], return_index=True, return_counts=True)
    if not len(known):
        return order, np.zeros(len(key), np.int64), np.zeros(len(key), np.int64)
    place = np.minimum(np.searchsorted(known, key), len(known) - 1)
    return order, begin[place], np.where(known[place] == key, size[place], 0)


def best_truth(
    box: Array, truth_box: Array, start: Array, size: Array, *, legacy_pixel: bool
) -> tuple[Array, Array]:
    """Place (N,) and overlap (N,) of the best of `size` truths from `start` on; -1 and 0 of none.

    Of equal overlaps the first counts, so a detection that touches nothing gets its group's first.

    Args:
        box, truth_box: (N, 4) and (G, 4) x1, y1, x2, y2; computed with in float64.
        start, size: (N,) of each row's group of truths.
        legacy_pixel: widths are x2 - x1 + 1.
    """
    more = 1.0 if legacy_pixel else 0.0
    truth = columns(truth_box, more)
    place = np.where(size > 0, start, -1)
    overlap = np.zeros(len(box), dtype=np.float64)
    for part in blocks(size):
        found = columns(box[part], more)
        best, top = start[part], np.zeros(len(part))
        for near, other, shared in touching(found, truth, best, size[part], more):
            union = found[4, near] + truth[4, other] - shared
            iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
            better = iou > top[near]
            near = near[better]
            best[near], top[near] = other[better], iou[better]
        place[part], overlap[part] = best, top
    return place, overlap


def columns(box: Array, more: float = 0.0) -> Array:
    """x1, y1, x2, y2 and area as rows (5, N) of float64; widths are x2 - x1 + `more`."""
    x1, y1, x2, y2 = box.T.astype(np.float64)
    return np.stack([x1, y1, x2, y2, (x2 - x1 + more) * (y2 - y1 + more)])


def blocks(size: Array) -> Iterator[Array]:
    """Cut the rows that have a group into blocks, largest groups first, as `touching` needs."""
    rows = np.flatnonzero(size)
    rows = rows[np.argsort(-size[rows], kind="stable")]
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        yield rows[begin : begin + ROWS_AT_ONCE]


def touching(
    box: Array, truth: Array, start: Array, size: Array, more: float = 0.0
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield rows, truths and the area they share, for all pairs whose x-ranges meet.

    One step for each place in the groups: as sizes fall, the rows with a truth there lead, and no
    row comes twice in a step. All other pairs share nothing.

    Args:
        box, truth: (5, N) and (5, G), made by `columns`.
        start, size: (N,) of each row's group of truths, 1 or more, falling.
        more: added to widths and heights.
    """
    first = start.copy()  # the caller may change `start` between steps
    x1, y1, x2, y2, _ = box
    truth_x1, truth_y1, truth_x2, truth_y2, _ = truth
    rows = np.searchsorted(-size, -np.arange(size[0]), side="left")  # (steps,) with size > step
    for step, count in enumerate(rows.tolist()):
        other = first[:count] + step
        width = np.minimum(x2[:count], truth_x2[other]) - np.maximum(x1[:count], truth_x1[other])
        width += more
        near = np.flatnonzero(width > 0)
        other, width = other[near], width[near]
        height = np.minimum(y2[near], truth_y2[other]) - np.maximum(y1[near], truth_y1[other])
        yield near, other, width * np.maximum(height + more, 0.0)
