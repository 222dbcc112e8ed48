"""Which query answers for which object: the cheapest one-to-one assignment."""

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
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
        queries, objects = linear_sum_assignment(costs.cpu().numpy())
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
