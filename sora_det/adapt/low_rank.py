"""A linear layer whose weight is frozen up to a trained low-rank term."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .errors import AdaptationError
from .fused import low_rank_linear


class Split(NamedTuple):
    """A weight as `residual + scale * up @ down`; the adaptation trains `up` and `down`.

    The product was taken out of the weight, so that the sum is the weight. Leading dimensions, if
    any, are a batch of weights.
    """

    residual: Tensor  # (..., out, in), frozen
    up: Tensor  # (..., out, rank), trained
    down: Tensor  # (..., rank, in), trained


class Added(Split):
    """A split in which the product comes on top: the residual is the whole weight."""


Start = Callable[..., Split]  # (weight, rank, *, scale) -> Split


def check_weight(weight: Tensor, rank: int) -> None:
    """Raise AdaptationError for a rank that (..., out, in) cannot have or values not finite."""
    shape = tuple(weight.shape[-2:])
    if not 1 <= rank <= min(shape):
        raise AdaptationError(f"rank must be 1..{min(shape)} for shape {shape}, got {rank}")
    check_finite(weight)


def check_finite(weight: Tensor) -> None:
    """Raise AdaptationError for values that are NaN or infinite."""
    if not finite(weight):
        raise AdaptationError(
            f"shape {tuple(weight.shape[-2:])} holds values that are not finite: look at what was "
            "loaded into it, and load sound weights"
        )


def finite(values: Tensor) -> bool:
    """Whether there is no NaN and no infinity."""
    # The extremes of a large tensor are found much faster than a mask of it is made.
    return values.numel() == 0 or all(bool(end.isfinite()) for end in values.detach().aminmax())


def check_scale(scale: float) -> None:
    """Raise AdaptationError for a scale that is not positive and finite."""
    if not 0 < scale < math.inf:
        raise AdaptationError(f"scale must be positive, got {scale}")


def residual(weight: Tensor, up: Tensor, down: Tensor, scale: float) -> Tensor:
    """Return `weight - scale * up @ down` in the type of `weight`, computed in float32 at least."""
    kind = torch.promote_types(weight.dtype, torch.float32)
    flat = [part.to(kind).reshape(-1, *part.shape[-2:]) for part in (weight, up, down)]
    with torch.autocast(weight.device.type, enabled=False):
        return torch.baddbmm(*flat, alpha=-scale).reshape(weight.shape).to(weight.dtype)


class Adapted(nn.Module, ABC):
    """What an adaptation puts in the place of an `nn.Linear`."""

    in_features: int
    out_features: int
    bias: nn.Parameter | None

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """The effective weight (out, in), differentiable in what is trained.

        Some timm attentions compute `F.linear(x, qkv.weight, bias)` themselves and never call the
        layer; through this property their adapters are trained all the same.
        """

    @abstractmethod
    def factors(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield name and tensor of everything trained but the bias."""

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return an ordinary Linear layer that computes the same; this layer stays as it is."""
        linear = nn.Linear(
            self.in_features, self.out_features, bias=self.bias is not None, device="meta"
        )
        own = next(self.parameters())
        with torch.autocast(own.device.type, enabled=False):
            linear.weight = nn.Parameter(self.weight.clone())
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.clone())
        return linear.train(self.training)


class LowRankLinear(Adapted):
    """`y = x W' + b` with `W = residual + scale * up @ down` and only `up`, `down` and `b` trained.

    A fused layer (q, k and v of an attention stacked in one weight) has one up and one down
    matrix per part, here called group, so that it trains exactly what three layers would. Where
    the product was taken out of the weight, its start is kept in the buffers `up0` and `down0`:
    with them the change against the original weight is known without another decomposition.

    Args:
        split: of every group, top to bottom: residual (group, out / group, in), up and down alike.
        bias: (out,) tensor or None. Trained if `train_bias`.
        scale: factor s of the low-rank term, alpha / rank.
        train_bias: whether gradients reach the bias.
    """

    up0: Tensor | None
    down0: Tensor | None

    def __init__(
        self,
        split: Split,
        bias: Tensor | None,
        *,
        scale: float = 1.0,
        train_bias: bool = True,
    ) -> None:
        super().__init__()
        self.residual = nn.Parameter(split.residual.flatten(0, 1), requires_grad=False)
        self.up = nn.Parameter(split.up)  # (group, out / group, rank)
        self.down = nn.Parameter(split.down)  # (group, rank, in)
        added = isinstance(split, Added)
        self.register_buffer("up0", None if added else split.up.detach().clone())
        self.register_buffer("down0", None if added else split.down.detach().clone())
        own = None if bias is None else bias.detach().clone()
        self.bias = None if own is None else nn.Parameter(own, requires_grad=train_bias)
        self.scale = float(scale)
        self.out_features, self.in_features = self.residual.shape

    @property
    def groups(self) -> int:
        return self.up.shape[0]

    @property
    def rank(self) -> int:
        return self.up.shape[2]

    @property
    def weight(self) -> Tensor:
        delta = torch.matmul(self.up, self.down).flatten(0, 1)  # (out, in)
        return (self.residual + self.scale * delta).to(self.residual.dtype)

    def factors(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield "up", self.up
        yield "down", self.down

    @torch.no_grad()
    def change(self) -> tuple[Tensor, Tensor]:
        """Return up (group, out / group, R) and down (group, R, in) of the change so far.

        `scale * up @ down` is what the weight has gained against the original one. R is the rank,
        or twice the rank if the start was taken out of the weight: [up, -up0] and [down; down0].
        """
        if self.up0 is None or self.down0 is None:
            return self.up.detach(), self.down.detach()
        return torch.cat([self.up, -self.up0], 2), torch.cat([self.down, self.down0], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out) without ever building the effective weight."""
        return low_rank_linear(x, self.residual, self.bias, self.down, self.up, self.scale)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"rank={self.rank}, groups={self.groups}, scale={self.scale:g}, "
            f"bias={self.bias is not None}"
        )


def low_rank(
    linear: nn.Linear,
    *,
    rank: int,
    start: Start,
    alpha: float | None = None,
    groups: int = 1,
    train_bias: bool = True,
) -> LowRankLinear:
    """Turn one Linear layer into a LowRankLinear that starts as `start` says.

    Args:
        linear: the pretrained layer, weight (out, in); it is not changed.
        rank: width r of the low-rank term of every group, 1 to the smaller side.
        start: maps weights to a Split, such as `split_minor`.
        alpha: scale s = alpha / rank; None means alpha = rank, so s = 1.
        groups: parts stacked in the weight's rows, 3 for a fused qkv.
        train_bias: whether the bias is trained.

    Raises:
        AdaptationError: rows that `groups` does not divide, a rank or a scale out of range, or
            values that are not finite.
    """
    parts = in_groups(linear.weight.detach(), groups)
    check_weight(parts, rank)
    scale = (rank if alpha is None else alpha) / rank
    check_scale(scale)
    split = start(parts, rank, scale=scale)
    return LowRankLinear(split, linear.bias, scale=scale, train_bias=train_bias)


def in_groups(weight: Tensor, groups: int) -> Tensor:
    """View (out, in) as (group, out / group, in)."""
    if groups < 1 or len(weight) % groups:
        raise AdaptationError(f"{groups} groups do not divide {len(weight)} output features")
    return weight.view(groups, -1, weight.shape[1])
