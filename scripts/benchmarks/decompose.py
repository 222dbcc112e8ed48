"""The minor components of every adapted matrix of a ViT-L, beside one whole SVD of each."""

import torch
from torch import Tensor

from sora_det.adapt import split_minor
from sora_det.adapt.decompose import Plan, split_all

from .results import Result
from .timing import in_turns, ratio

RANK = 16
BLOCKS = 16  # 8 to 23 of 24
SHAPES = {"q": (1, 1), "k": (1, 1), "v": (1, 1), "proj": (1, 1), "fc1": (4, 1), "fc2": (1, 4)}


def decompose(repetitions: int, *, width: int = 1024, blocks: int = BLOCKS) -> Result:
    """Compare `split_minor` with `torch.linalg.svd` in the weights' own float32.

    Both are checked against the float64 SVD: the sine of the largest angle between the subspaces of
    the weakest right singular vectors.

    Args:
        repetitions: of each way.
        width: of the transformer.
        blocks: that are adapted.
    """
    weights = {
        f"blocks.{block}.{name}": matrix(out * width, inner * width, seed=len(SHAPES) * block + at)
        for block in range(blocks)
        for at, (name, (out, inner)) in enumerate(SHAPES.items())
    }
    plans = {name: Plan(weight[None], RANK, 1.0) for name, weight in weights.items()}
    timings = in_turns(
        {
            "split_minor": lambda: split_all(plans, split_minor),
            "torch.linalg.svd": lambda: [
                torch.linalg.svd(weight, full_matrices=False) for weight in weights.values()
            ],
        },
        repetitions,
    )
    ours, theirs = [], []
    for weight in weights.values():
        true = torch.linalg.svd(weight.double(), full_matrices=False).Vh[-RANK:]
        down = split_minor(weight, RANK).down
        ours.append(sine(torch.linalg.qr(down.double().mT).Q.mT, true))
        whole = torch.linalg.svd(weight, full_matrices=False).Vh[-RANK:]
        theirs.append(sine(whole.double(), true))
    return Result(
        "decompose",
        f"{len(weights)} float32 matrices of a ViT with width {width}, rank {RANK}, singular "
        "values falling by three decades",
        timings,
        [ratio(timings[0], timings[1])],
        {
            "largest sine to the float64 SVD, split_minor": f"{max(ours):.1e}",
            "largest sine to the float64 SVD, torch.linalg.svd": f"{max(theirs):.1e}",
        },
    )


def matrix(out: int, inner: int, *, seed: int) -> Tensor:
    """Return random singular vectors (out, inner) around values from 1 to 1e-3, in float32."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.logspace(0, -3, min(out, inner), dtype=torch.float64)
    sides = [torch.randn(size, len(values), generator=generator).double() for size in (out, inner)]
    u, v = (torch.linalg.qr(side).Q for side in sides)
    return (u * values @ v.mT).float()


def sine(found: Tensor, true: Tensor) -> float:
    """Return the sine of the largest angle between two subspaces, orthonormal bases in rows."""
    return float(torch.linalg.matrix_norm(found - found @ true.mT @ true, 2))
