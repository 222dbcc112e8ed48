"""What an adaptation trains: parameters by kind, and their counts."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from .low_rank import LowRankLinear


def adapter_parameters(net: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield name and tensor of every low-rank factor in `net`."""
    for name, module in net.named_modules():
        if isinstance(module, LowRankLinear):
            prefix = f"{name}." if name else ""
            yield f"{prefix}up", module.up
            yield f"{prefix}down", module.down


@dataclass(frozen=True)
class Trainable:
    """Counts of single numbers (not tensors) in a network."""

    layers: int  # adapted layers
    adapter: int  # trained numbers in low-rank factors
    bias: int  # trained numbers in biases
    other: int  # trained numbers elsewhere
    total: int  # all parameters, adapters included

    @property
    def trained(self) -> int:
        return self.adapter + self.bias + self.other

    def __str__(self) -> str:
        share = 100 * self.trained / self.total if self.total else 0.0
        return (
            f"{self.trained:,} of {self.total:,} parameters train ({share:.2f} %): "
            f"{self.adapter:,} in {self.layers} adapted layers, {self.bias:,} biases, "
            f"{self.other:,} others"
        )


def trainable(net: nn.Module) -> Trainable:
    """Count what trains in `net`."""
    adapters = {id(p) for _, p in adapter_parameters(net)}
    counts = {"adapter": 0, "bias": 0, "other": 0}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            kind = "bias" if name.endswith("bias") else "other"
            counts["adapter" if id(parameter) in adapters else kind] += parameter.numel()
    layers = sum(isinstance(m, LowRankLinear) for m in net.modules())
    return Trainable(layers=layers, total=sum(p.numel() for p in net.parameters()), **counts)
