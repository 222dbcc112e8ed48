"""SoRA (arXiv 2412.04077, eq. 2-4): train the minor singular components, freeze the rest."""

import torch
from torch import Tensor

from .low_rank import Split


def split_minor(weight: Tensor, rank: int, *, scale: float = 1.0) -> Split:
    """Move the `rank` weakest singular directions of `weight` into scale * up @ down.

    With W = U S V' and the last `rank` triplets, up = U sqrt(S / scale) and
    down = sqrt(S / scale) V'.

    Args:
        weight: (out, in), any floating type.
        rank: 1 to min(out, in).
        scale: s = alpha / rank, positive.

    Returns:
        The residual in the type of `weight`; up and down in float32 (float64 for float64).

    Raises:
        ValueError: rank or scale out of range, or a weight that is not finite.
    """
    u, s, vh = _svd(weight, rank, scale)
    return _split(weight, u[:, -rank:], s[-rank:], vh[-rank:], scale)


def split_principal(weight: Tensor, rank: int, *, scale: float = 1.0) -> Split:
    """Move the `rank` strongest singular directions instead (PiSSA, arXiv 2404.02948)."""
    u, s, vh = _svd(weight, rank, scale)
    return _split(weight, u[:, :rank], s[:rank], vh[:rank], scale)


def _svd(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    limit = min(weight.shape)
    if not 1 <= rank <= limit:
        raise ValueError(f"rank must be 1..{limit} for shape {tuple(weight.shape)}, got {rank}")
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")
    if not torch.isfinite(weight).all():
        raise ValueError(f"weight of shape {tuple(weight.shape)} holds values that are not finite")
    # In float32 the weakest directions of a pretrained matrix are lost in rounding.
    u, s, vh = torch.linalg.svd(weight.double(), full_matrices=False)  # s descends
    return u, s, vh


def _split(weight: Tensor, u: Tensor, s: Tensor, vh: Tensor, scale: float) -> Split:
    factor = torch.promote_types(weight.dtype, torch.float32)
    root = (s / scale).sqrt()
    up, down = (u * root).to(factor), (root[:, None] * vh).to(factor)
    # Subtract what is stored, not what was computed: the sum is then the weight to rounding.
    residual = weight.double() - scale * (up.double() @ down.double())
    return Split(residual.to(weight.dtype), up.contiguous(), down.contiguous())
