"""Singular components drawn at random: does it matter that SoRA trains the minor ones?"""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sora_det.adapt import SoRA
from sora_det.adapt.decompose import Plan, Progress, split_all
from sora_det.adapt.low_rank import Split, check_scale, check_weight, residual


def split_random(
    weight: Tensor, rank: int, *, scale: float = 1.0, generator: torch.Generator
) -> Split:
    """Move `rank` singular directions of `weight`, drawn at random, into scale * up @ down.

    Arguments and result are those of `sora_det.adapt.split_minor`; every matrix of a batch has
    directions of its own, and the generator is one of the CPU.
    """
    check_scale(scale)
    check_weight(weight, rank)
    u, s, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    chance = torch.rand(s.shape, generator=generator)
    taken = chance.argsort(dim=-1)[..., :rank].to(s.device)  # (..., rank)
    root = (s.gather(-1, taken) / scale).sqrt()
    up = u.take_along_dim(taken[..., None, :], dim=-1) * root[..., None, :]
    down = root[..., :, None] * vh.take_along_dim(taken[..., :, None], dim=-2)
    factor = torch.promote_types(weight.dtype, torch.float32)
    up, down = up.to(factor).contiguous(), down.to(factor).contiguous()
    return Split(residual(weight, up, down, scale), up, down)


class RandomComponents(SoRA):
    """Train singular components that `seed` draws; arguments as for SoRA.

    The start is computed anew in every run, whatever `start_file` says.
    """

    def options(self) -> dict[str, Any]:
        return {**super().options(), "seed": self.seed}

    def splits(
        self,
        plans: Mapping[str, Plan],
        originals: Mapping[str, str],
        progress: Progress[Any] | None,
    ) -> dict[str, Split]:
        generator = torch.Generator().manual_seed(self.seed)
        start = functools.partial(split_random, generator=generator)
        return split_all(plans, start, progress=progress)
