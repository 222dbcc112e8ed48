"""A linear layer whose weight is frozen up to a trained low-rank term."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Split(NamedTuple):
    """A weight as `residual + scale * up @ down`; the adaptation trains `up` and `down`."""

    residual: Tensor  # (out, in), frozen
    up: Tensor  # (out, rank), trained
    down: Tensor  # (rank, in), trained


Start = Callable[..., Split]  # (weight, rank, *, scale) -> Split


class LowRankLinear(nn.Module):
    """`y = x W' + b` with `W = residual + scale * up @ down` and only `up`, `down` and `b` trained.

    A fused layer (q, k and v of an attention stacked in one weight) has one up and one down
    matrix per part, here called group, so that it trains exactly what three layers would.

    Args:
        splits: one split per group, top to bottom; all with the same shapes.
        bias: (out,) tensor or None. Trained if `train_bias`.
        scale: factor s of the low-rank term, alpha / rank.
        train_bias: whether gradients reach the bias.
    """

    def __init__(
        self,
        splits: Sequence[Split],
        bias: Tensor | None,
        *,
        scale: float = 1.0,
        train_bias: bool = True,
    ) -> None:
        super().__init__()
        residual = torch.cat([split.residual for split in splits])
        self.residual = nn.Parameter(residual, requires_grad=False)
        self.up = nn.Parameter(torch.stack([s.up for s in splits]))  # (group, out / group, rank)
        self.down = nn.Parameter(torch.stack([s.down for s in splits]))  # (group, rank, in)
        own = None if bias is None else bias.detach().clone()
        self.bias = None if own is None else nn.Parameter(own, requires_grad=train_bias)
        self.scale = float(scale)
        self.out_features, self.in_features = residual.shape

    @property
    def groups(self) -> int:
        return self.up.shape[0]

    @property
    def rank(self) -> int:
        return self.up.shape[2]

    @property
    def weight(self) -> Tensor:
        """The effective weight (out, in), differentiable in `up` and `down`.

        Some timm attentions compute `F.linear(x, qkv.weight, bias)` themselves and never call the
        layer; through this property their adapters are trained all the same.
        """
        delta = torch.matmul(self.up, self.down).flatten(0, 1)  # (out, in)
        return (self.residual + self.scale * delta).to(self.residual.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out) without ever building the effective weight."""
        y = F.linear(x, self.residual, self.bias)
        h = F.linear(x, self.down.flatten(0, 1).to(x.dtype))  # (..., group * rank)
        # A block-diagonal up matrix serves all groups with one product.
        up = self.up[0] if self.groups == 1 else torch.block_diag(*self.up)  # (out, group * rank)
        rows = y.reshape(-1, self.out_features), h.reshape(-1, up.shape[1])
        return torch.addmm(*rows, up.to(x.dtype).t(), alpha=self.scale).view(y.shape)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return an ordinary Linear layer that computes the same; this layer stays as it is."""
        linear = nn.Linear(
            self.in_features, self.out_features, bias=self.bias is not None, device="meta"
        )
        linear.weight = nn.Parameter(self.weight.clone())
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.clone())
        return linear.train(self.training)

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
    """Turn a Linear layer into a LowRankLinear that starts as `start` says.

    Args:
        linear: the pretrained layer, weight (out, in); it is not changed.
        rank: width r of the low-rank term of every group.
        start: maps a weight to a Split, such as `split_minor`.
        alpha: scale s = alpha / rank; None means alpha = rank, so s = 1.
        groups: parts stacked in the weight's rows, 3 for a fused qkv.
        train_bias: whether the bias is trained.

    Raises:
        ValueError: rows that `groups` does not divide, or a rank out of range.
    """
    if linear.out_features % groups:
        raise ValueError(f"{groups} groups do not divide {linear.out_features} output features")
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    scale = (rank if alpha is None else alpha) / rank
    weight = linear.weight.detach()
    splits = [start(part, rank, scale=scale) for part in weight.chunk(groups)]
    return LowRankLinear(splits, linear.bias, scale=scale, train_bias=train_bias)
