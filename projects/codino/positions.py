"""Sine embeddings of positions in a map and of boxes."""

import math

import torch
from torch import Tensor


def sine_map(padding: Tensor, channels: int, *, temperature: float) -> Tensor:
    """Embed where in the image the cells of a map lie.

    Args:
        padding: (batch, rows, columns) bool, True outside the image.
        channels: a multiple of 4; the first half is for y, the second for x.
        temperature: ratio of the longest wave to the shortest; 20 in Co-DINO, 10000 in DETR.

    Returns:
        (batch, rows * columns, channels) float32.
    """
    inside = ~padding
    parts = []
    for axis in (1, 2):
        count = inside.cumsum(axis, dtype=torch.float32)
        total = count.narrow(axis, -1, 1)  # cells of the image along this row or column
        parts.append(_waves(count / (total + 1e-6), channels // 2, temperature))
    return torch.cat(parts, dim=-1).flatten(1, 2)


def sine_coordinates(values: Tensor, features: int, *, temperature: float = 10000.0) -> Tensor:
    """Embed every coordinate of (..., n) in 0..1 by `features` numbers: (..., n * features)."""
    return _waves(values.float(), features, temperature).flatten(-2)


def _waves(values: Tensor, features: int, temperature: float) -> Tensor:
    """Return sine and cosine in turn, (..., features), with slower and slower waves."""
    steps = torch.arange(features // 2, dtype=torch.float32, device=values.device)
    frequency = 2 * math.pi * temperature ** (-2 * steps / features)  # (features / 2,)
    angles = values[..., None] * frequency
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
