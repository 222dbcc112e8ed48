"""What a set of predictions costs: quality focal, L1 and generalised IoU."""

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from .boxes import overlaps, to_corners
from .matching import Assigned


class LossWeights(NamedTuple):
    """Factors of the three losses of every layer."""

    classes: float = 1.0
    boxes: float = 5.0
    giou: float = 2.0


def prediction_losses(
    logits: Tensor,
    boxes: Tensor,
    assigned: Assigned,
    *,
    weights: LossWeights,
    synchronised: bool = True,
) -> dict[str, Tensor]:
    """Compare predictions with what they should be.

    Args:
        logits: (batch, query, class).
        boxes: (batch, query, 4), centre and size as fractions of the image.
        assigned: labels and boxes wanted of the queries.
        weights: of the losses.
        synchronised: divide the class loss by the positives per process that all processes
            have on average, as the box losses always are; otherwise by this process's own.

    Returns:
        `cls`, `box` and `giou`: sums over the queries, by the number of positives (at least 1).
    """
    logits, boxes = logits.float(), boxes.float()
    positive = (assigned.labels >= 0) & (assigned.labels < logits.shape[2])
    found, wanted = boxes[positive], assigned.boxes[positive].float()  # (positive, 4)
    iou, giou = overlaps(to_corners(found), to_corners(wanted))
    quality = torch.zeros_like(logits)
    quality[(*positive.nonzero(as_tuple=True), assigned.labels[positive])] = iou.detach()
    count = positive.sum().to(logits)
    mean = mean_over_processes(count).clamp(min=1)
    classes = quality_focal(logits, quality).sum(-1)[assigned.labels >= 0].sum()
    return {
        "cls": weights.classes * classes / (mean if synchronised else count.clamp(min=1)),
        "box": weights.boxes * (found - wanted).abs().sum() / mean,
        "giou": weights.giou * (1 - giou).sum() / mean,
    }


def quality_focal(logits: Tensor, quality: Tensor, beta: float = 2.0) -> Tensor:
    """Return the quality focal loss (arXiv 2006.04388, equation 6) of every logit.

    Args:
        logits: of any shape.
        quality: of the same shape, in 0..1: the IoU for the object's class, 0 for all else.
        beta: how much easy cases count less.
    """
    error = (quality - logits.sigmoid()).abs()
    return error**beta * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a scalar over the processes of a distributed training."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
