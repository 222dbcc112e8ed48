"""Which query answers for which object: the cheapest one-to-one assignment."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .boxes import overlaps, to_corners

TINY = 1e-12


class Targets(NamedTuple):
    """The objects of one image."""

    labels: Tensor  # (object,) int64
    boxes: Tensor  # (object, 4) centre and size as fractions of the image


class Assigned(NamedTuple):
    """What the queries of a batch have to predict."""

    labels: Tensor  # (batch, query) int64; the number of classes is background, -1 is ignored
    boxes: Tensor  # (batch, query, 4) as in Targets; anything for what is no object


def match(logits: Tensor, boxes: Tensor, targets: list[Targets]) -> Assigned:
    """Assign every object its own query, or every query its own object if those are more.

    The cost of a pair is 2 focal + 5 L1 + 2 generalised IoU, as in DINO.

    Args:
        logits: (batch, query, class).
        boxes: (batch, query, 4), as in Targets.
        targets: one per image.
    """
    labels = logits.new_full(logits.shape[:2], logits.shape[2], dtype=torch.int64)
    wanted = torch.zeros_like(boxes)
    for image, target in enumerate(targets):
        if not len(target.labels):
            continue
        costs = pair_costs(logits[image], boxes[image], target)  # (query, object)
        queries, objects = cheapest(costs.cpu().numpy())
        labels[image, queries] = target.labels[objects]
        wanted[image, queries] = target.boxes[objects]
    return Assigned(labels, wanted)


@torch.no_grad()
def pair_costs(logits: Tensor, boxes: Tensor, target: Targets) -> Tensor:
    """Return the cost of every query for every object of one image, (query, object)."""
    chance = logits.float().sigmoid()[:, target.labels]  # (query, object)
    positive = -0.25 * (1 - chance).square() * (chance + TINY).log()
    negative = -0.75 * chance.square() * (1 - chance + TINY).log()
    distance = torch.cdist(boxes.float(), target.boxes, p=1)
    giou = overlaps(to_corners(boxes.float())[:, None], to_corners(target.boxes))[1]
    costs = 2 * (positive - negative) + 5 * distance - 2 * giou
    return costs.nan_to_num(1e6, 1e6, -1e6)  # the loss will tell of a diverged model


def cheapest(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve the assignment problem by shortest augmenting paths (Jonker and Volgenant 1987).

    Args:
        costs: (row, column), finite.

    Returns:
        As many rows and columns as the smaller side has, pairwise; their total cost is minimal.
    """
    if costs.shape[0] > costs.shape[1]:
        columns, rows = cheapest(costs.T)
        return rows, columns
    costs = np.ascontiguousarray(costs, dtype=np.float64)
    height, width = costs.shape
    row_price, column_price = np.zeros(height), np.zeros(width)
    row_of = np.full(width, -1)  # -1: the column is free
    column_of = np.full(height, -1)
    for start in range(height):
        reach, back, seen, end = _search(start, costs, row_price, column_price, row_of)
        length = reach[end]
        inner = seen & (row_of >= 0)  # columns that lie on the way and have an owner
        row_price[start] += length
        row_price[row_of[inner]] += length - reach[inner]
        column_price[seen] -= length - reach[seen]
        column = end
        while column >= 0:  # hand the columns of the path on, from its end to `start`
            row = back[column]
            row_of[column] = row
            column, column_of[row] = column_of[row], column
    return np.arange(height), column_of


def _search(
    start: int,
    costs: np.ndarray,
    row_price: np.ndarray,
    column_price: np.ndarray,
    row_of: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Find the cheapest way from a row to a free column by reassigning others (Dijkstra).

    Returns:
        Cost of the way to every column, the row before it, which columns were reached for good,
        and the free column at the end.
    """
    reach = np.full(costs.shape[1], np.inf)
    back = np.full(costs.shape[1], -1)
    seen = np.zeros(costs.shape[1], dtype=bool)
    row, length = start, 0.0
    while True:
        way = length + costs[row] - row_price[row] - column_price
        better = ~seen & (way < reach)
        reach[better], back[better] = way[better], row
        column = int(np.where(seen, np.inf, reach).argmin())
        seen[column], length = True, float(reach[column])
        if row_of[column] < 0:
            return reach, back, seen, column
        row = int(row_of[column])
