"""Boxes as centre and size or as corners, in fractions of an image, and how far two overlap."""

import torch
from torch import Tensor


def to_corners(boxes: Tensor) -> Tensor:
    """Turn (..., 4) centre x, centre y, width, height into left, top, right, bottom."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def to_centres(boxes: Tensor) -> Tensor:
    """Turn (..., 4) left, top, right, bottom into centre x, centre y, width, height."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def inverse_sigmoid(values: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the logit of values in 0..1; both the value and its complement count as >= eps."""
    values = values.clamp(0, 1)
    return (values.clamp(min=eps) / (1 - values).clamp(min=eps)).log()


def overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and generalised IoU (arXiv 1902.09630) of boxes given by corners.

    Leading dimensions broadcast: (n, 1, 4) with (m, 4) gives all pairs (n, m). Both values do not
    change when an axis is stretched, so fractions of an image serve as well as pixels. Two boxes
    without area have IoU 0.
    """
    tiny = torch.finfo(first.dtype).tiny
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    union = _area(first) + _area(second) - common
    iou = common / union.clamp(min=tiny)
    low = torch.minimum(first[..., :2], second[..., :2])
    high = torch.maximum(first[..., 2:], second[..., 2:])
    hull = (high - low).clamp(min=0).prod(-1)
    return iou, iou - (hull - union) / hull.clamp(min=tiny)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)
