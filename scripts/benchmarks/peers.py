"""Low-rank layers of others, for the suites `layer` and `train`."""

from collections.abc import Sequence

from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from sora_det.adapt import LowRankLinear


class ReferenceLayer(nn.Module):
    """A layer as the published code computes it.

    The frozen product, two thin products one after the other, a scale, an addition in place.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, up: Tensor, down: Tensor, scale: float
    ) -> None:
        super().__init__()
        self.frozen, self.up, self.down = linear(weight, bias), linear(up), linear(down)
        self.frozen.weight.requires_grad_(False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.frozen(x)
        y += self.up(self.down(x)) * self.scale
        return y


def reference(ours: LowRankLinear) -> nn.ModuleList:
    """Return the published layers that compute what `ours` does, from copies of its tensors.

    They are several for a fused layer: that code has q, k and v in layers of their own.
    """
    count = ours.groups
    biases = [None] * count if ours.bias is None else ours.bias.chunk(count)
    parts = zip(ours.residual.chunk(count), biases, ours.up, ours.down, strict=True)
    return nn.ModuleList(ReferenceLayer(*part, ours.scale) for part in parts)


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """Return a layer with copies of these tensors."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made


def with_peft(net: nn.Module, names: Sequence[str], rank: int) -> nn.Module:
    """Put PEFT's LoRA into the layers of `net` called `names`, and return what PEFT wraps it in.

    Their biases train. PEFT knows no parts: a fused layer gets one low-rank term, which is less
    work than three.
    """
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(names), bias="lora_only")
    made: nn.Module = get_peft_model(net, config)
    return made
