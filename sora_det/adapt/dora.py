"""DoRA (arXiv 2402.09353): a low-rank change of direction and a trained length of every row."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .low_rank import Adapted, LowRankLinear


class DoRALinear(Adapted):
    """`y = x W' + b` with `W = magnitude * V / |V|` by rows, V being a low-rank layer's weight.

    The norm is taken as a constant in the backward pass, as section 4.3 of the paper proposes.

    Args:
        direction: the low-rank layer, without bias.
        bias: (out,) tensor or None. Trained if `train_bias`.
        train_bias: whether gradients reach the bias.
    """

    def __init__(
        self, direction: LowRankLinear, bias: Tensor | None, *, train_bias: bool = True
    ) -> None:
        super().__init__()
        self.direction = direction
        self.magnitude = nn.Parameter(_lengths(direction))  # (out,)
        own = None if bias is None else bias.detach().clone()
        self.bias = None if own is None else nn.Parameter(own, requires_grad=train_bias)
        self.out_features, self.in_features = direction.out_features, direction.in_features

    @property
    def weight(self) -> Tensor:
        weight = self.direction.weight
        return (self._gain()[:, None] * weight).to(weight.dtype)

    def factors(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from ((f"direction.{name}", p) for name, p in self.direction.factors())
        yield "magnitude", self.magnitude

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out) without ever building the effective weight's gradient."""
        y = self.direction(x)
        gain = self._gain().to(y.dtype)
        return y * gain if self.bias is None else torch.addcmul(self.bias.to(y.dtype), y, gain)

    def _gain(self) -> Tensor:
        # A row of zeros has no direction: it stays at zero, instead of dividing by zero.
        lengths = _lengths(self.direction)
        return self.magnitude / torch.where(lengths > 0, lengths, 1)


@torch.no_grad()
def _lengths(layer: LowRankLinear) -> Tensor:
    """Return the Euclidean norms (out,) of the rows of a layer's weight."""
    norms: Tensor = torch.linalg.vector_norm(layer.weight.to(layer.up.dtype), dim=1)
    return norms
