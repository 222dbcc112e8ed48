"""LoRA (arXiv 2106.09685), the baseline: the whole weight frozen, a product that starts at 0."""

import math

import torch
from torch import Tensor

from .low_rank import Added


def start_at_zero(weight: Tensor, rank: int, *, scale: float = 1.0) -> Added:
    """Keep `weight` (..., out, in) as it is and add up = 0 and a random down.

    `down` is uniform in +-1/sqrt(in), as published (Kaiming with a = sqrt(5)); `scale` plays no
    part in the start and is there because every start has it.
    """
    *batch, out, inner = weight.shape
    kind = torch.promote_types(weight.dtype, torch.float32)
    bound = 1 / math.sqrt(inner)
    down = torch.empty(*batch, rank, inner, dtype=kind, device=weight.device)
    up = torch.zeros(*batch, out, rank, dtype=kind, device=weight.device)
    return Added(weight.clone(), up, down.uniform_(-bound, bound))
