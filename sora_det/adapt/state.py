"""What an adaptation trains: parameters by kind, and their counts."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from .low_rank import Adapted


def adapted_layers(net: nn.Module) -> dict[str, Adapted]:
    """Return every adapted layer of `net` by name, the outer one where one holds another."""
    found: dict[str, Adapted] = {}
    for name, module in net.named_modules():
        inside = any(not outer or name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, Adapted) and not inside:
            found[name] = module
    return found


def adapter_parameters(net: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield name and tensor of everything in the adapted layers of `net` that is no plain layer's.

    These are the low-rank factors, and the lengths of DoRA.
    """
    for layer, module in adapted_layers(net).items():
        for name, parameter in module.factors():
            yield f"{layer}.{name}" if layer else name, parameter


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
    total = sum(p.numel() for p in net.parameters())
    return Trainable(layers=len(adapted_layers(net)), total=total, **counts)
