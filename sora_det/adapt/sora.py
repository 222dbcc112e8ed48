"""SoRA (arXiv 2412.04077, eq. 2-4): train the minor singular components, freeze the rest."""

import math

import torch
from torch import Tensor

from .low_rank import Added, Split, check_scale, residual
from .svd import Solver, Triplets, triplets


def split_minor(
    weight: Tensor, rank: int, *, scale: float = 1.0, solver: Solver = "krylov"
) -> Split:
    """Move the `rank` weakest singular directions of `weight` into scale * up @ down.

    With W = U S V' and the last `rank` triplets, up = U sqrt(S / scale) and
    down = sqrt(S / scale) V'.

    Args:
        weight: (..., out, in), any floating type; leading dimensions are a batch.
        rank: 1 to min(out, in).
        scale: s = alpha / rank, positive.
        solver: see `sora_det.adapt.svd.triplets`.

    Returns:
        The residual in the type of `weight`; up and down in float32 (float64 for float64).

    Raises:
        AdaptationError: rank or scale out of range, a weight that is not finite, or a solver that
            cannot find minor components.
    """
    return _move(weight, triplets(weight, rank, end="minor", solver=solver), scale)


def split_principal(
    weight: Tensor, rank: int, *, scale: float = 1.0, solver: Solver = "krylov"
) -> Split:
    """Move the `rank` strongest singular directions instead (PiSSA, arXiv 2404.02948)."""
    return _move(weight, triplets(weight, rank, end="principal", solver=solver), scale)


def add_minor_of_random(
    weight: Tensor,
    rank: int,
    *,
    scale: float = 1.0,
    solver: Solver = "krylov",
    generator: torch.Generator | None = None,
) -> Added:
    """Add to the whole `weight` the minor components of a random one: the published code's start.

    That code decomposes the layers as `nn.Linear` initialises them, uniform in +-1/sqrt(in), and
    loads the pretrained weights over the residual afterwards. What trains is then a random
    low-rank term, and the network does not start as the pretrained one. Draws on the CPU.
    """
    bound = 1 / math.sqrt(weight.shape[-1])
    factor = torch.promote_types(weight.dtype, torch.float32)
    random = torch.empty(weight.shape, dtype=factor).uniform_(-bound, bound, generator=generator)
    found = triplets(random.to(weight.device), rank, end="minor", solver=solver)
    up, down = _factors(found, scale, factor)
    return Added(weight.clone(), up, down)


def _move(weight: Tensor, found: Triplets, scale: float) -> Split:
    factor = torch.promote_types(weight.dtype, torch.float32)
    up, down = _factors(found, scale, factor)
    # Subtract what is stored, not what was computed: the sum is then the weight to rounding.
    return Split(residual(weight, up, down, scale), up, down)


def _factors(found: Triplets, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    check_scale(scale)
    root = (found.s / scale).sqrt()
    up, down = found.u * root[..., None, :], root[..., :, None] * found.vh
    return up.to(dtype).contiguous(), down.to(dtype).contiguous()
