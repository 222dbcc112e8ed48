"""How far training has moved weights, and in which of their singular directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .decompose import Progress
from .errors import AdaptationError
from .low_rank import Adapted
from .select import Select
from .spectrum import effective_rank
from .state import adapted_layers
from .svd import End, triplets
from .weights import (
    check_named,
    effective_weight,
    in_parts,
    linear_layers,
    low_rank_part,
    part_names,
    steps,
)

ROUNDING = 1e-7  # of a weight's norm


@dataclass(frozen=True)
class Overlap:
    """Which share of a change's energy (squared Frobenius norm) lies in a singular subspace, 0..1.

    Attributes:
        left: of its columns, in the span of left singular vectors.
        right: of its rows, in the span of right singular vectors.
        both: on both sides at once.
    """

    left: float
    right: float
    both: float

    @property
    def either(self) -> float:
        """Share that touches the subspace on the left, on the right or on both sides."""
        return self.left + self.right - self.both


@dataclass(frozen=True)
class Movement:
    """How far training has moved one matrix from its original value W.

    Attributes:
        name: of the matrix, such as "blocks.8.attn.q".
        shape: out, in.
        norm: Frobenius norm of W.
        change: Frobenius norm of W_now - W.
        relative: change / norm; None if W is 0.
        effective_rank: of W_now - W, see `effective_rank`; 0 if nothing has moved: a change below
            1e-7 of W is what rounding does.
        rank: number of singular directions of W in each of the two subspaces below.
        minor: share in those of the smallest singular values; None if nothing has moved.
        principal: share in those of the largest; None if nothing has moved.
        chance: what a change without any preference of direction would have, on average.
    """

    name: str
    shape: tuple[int, int]
    norm: float
    change: float
    relative: float | None
    effective_rank: float
    rank: int
    minor: Overlap | None
    principal: Overlap | None
    chance: Overlap


def movement(name: str, original: Tensor, change: Tensor, *, rank: int) -> Movement:
    """Describe a change W_now - W of one matrix, computed in float64.

    Args:
        name: of the matrix.
        original: W, (out, in).
        change: W_now - W, (out, in).
        rank: of the subspaces of W that the change is compared with, 1 to min(out, in).

    Raises:
        AdaptationError: rank out of range or values that are not finite.
    """
    original, change = original.double(), change.double()
    check_named(name, torch.stack([original, change]))
    out, inner = change.shape
    norm, moved = float(original.norm()), float(change.norm())
    still = moved <= ROUNDING * norm
    ends: tuple[End, End] = ("minor", "principal")
    overlaps = [None if still else _overlap(original, change, rank, end) for end in ends]
    return Movement(
        name=name,
        shape=(out, inner),
        norm=norm,
        change=moved,
        relative=moved / norm if norm else None,
        effective_rank=0.0 if still else effective_rank(torch.linalg.svdvals(change)),
        rank=rank,
        minor=overlaps[0],
        principal=overlaps[1],
        chance=Overlap(rank / out, rank / inner, rank * rank / (out * inner)),
    )


def movements(
    net: nn.Module,
    *,
    original: nn.Module | None = None,
    rank: int = 16,
    select: Select | None = None,
    progress: Progress[Any] | None = None,
) -> tuple[Movement, ...]:
    """Return how far training has moved each Linear layer from its original weight.

    Args:
        net: after training.
        original: the network before adaptation, with the same layer names. Without it, the adapted
            layers of `net` are described, which know their own original weights; it is needed
            where weights are trained directly.
        rank: of the subspaces of the original weight to compare with; an adapted layer takes its
            own rank instead.
        select: which layers, by name; None means all.
        progress: wraps the sequence of layers, as tqdm does.

    Raises:
        AdaptationError: no layer is selected, a layer that `original` lacks, or values that are
            not finite.
    """
    adapted = adapted_layers(net)
    if original is None and not adapted:
        raise AdaptationError("a network without adapted layers needs `original` to compare with")
    layers = linear_layers(net, select)
    if original is None:
        layers = {name: layer for name, layer in layers.items() if name in adapted}
    found = []
    for name, layer in steps(layers, progress):
        own = low_rank_part(layer)
        before = _before(name, layer, original)
        both = in_parts(name, before), in_parts(name, effective_weight(layer) - before)
        for part, weight, change in zip(part_names(name), *both, strict=True):
            width = min(*weight.shape, rank if own is None else own.rank)
            found.append(movement(part, weight, change, rank=width))
    return tuple(found)


def original_weight(layer: Adapted) -> Tensor:
    """Return the weight (out, in) before adaptation, in float64.

    Raises:
        AdaptationError: a kind of layer that does not know it.
    """
    low = low_rank_part(layer)
    if low is None:
        raise AdaptationError(f"a {type(layer).__name__} does not know its original weight")
    up, down = low.change()
    gained = (up.double() @ down.double()).flatten(0, 1)  # (out, in)
    return effective_weight(low) - low.scale * gained


def _before(name: str, layer: nn.Module, original: nn.Module | None) -> Tensor:
    # Their own start is the exact one: a loaded weight has been rounded into the residual.
    if isinstance(layer, Adapted) and low_rank_part(layer) is not None:
        return original_weight(layer)
    if original is None:
        raise AdaptationError(f"layer {name} needs `original` to compare with")
    found = linear_layers(original)
    if name not in found:
        raise AdaptationError(f"the original network has no Linear layer {name}")
    return effective_weight(found[name])


def _overlap(original: Tensor, change: Tensor, rank: int, end: End) -> Overlap:
    u, _, vh = triplets(original, rank, end=end)
    energy = float(change.square().sum())
    left, right = u.mT @ change, change @ vh.mT
    inside = u.mT @ right
    shares = (min(float(part.square().sum()) / energy, 1.0) for part in (left, right, inside))
    return Overlap(*shares)
