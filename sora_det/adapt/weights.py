"""The weights of a network's Linear layers, adapted or plain, as the analyses look at them.

A fused qkv counts as three matrices, named `attn.q`, `attn.k` and `attn.v`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .decompose import Progress
from .dora import DoRALinear
from .errors import AdaptationError
from .low_rank import Adapted, LowRankLinear, in_groups
from .select import FUSED_PARTS, Select
from .state import adapted_layers


def linear_layers(net: nn.Module, select: Select | None = None) -> dict[str, nn.Module]:
    """Return every Linear layer, adapted or plain, that `select` (default: all) matches, by name.

    Raises:
        AdaptationError: there is none.
    """
    adapted = adapted_layers(net)
    found: dict[str, nn.Module] = {}
    for name, module in net.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in adapted)
        linear = name in adapted or (isinstance(module, nn.Linear) and not inside)
        if linear and (select is None or select(name)):
            found[name] = module
    if not found:
        raise AdaptationError(f"no Linear layer of this {type(net).__name__} is selected")
    return found


def part_names(layer: str) -> tuple[str, ...]:
    """Return blocks.8.attn.q, .k and .v for the fused blocks.8.attn.qkv, else the name itself."""
    prefix, dot, last = layer.rpartition(".")
    return tuple(f"{prefix}{dot}{part}" for part in last) if last in FUSED_PARTS else (layer,)


def in_parts(name: str, weight: Tensor) -> Tensor:
    """View (out, in) as (part, out / part, in)."""
    return in_groups(weight, len(part_names(name)))


@torch.no_grad()
def effective_weight(layer: nn.Module) -> Tensor:
    """Return the weight (out, in) that a plain or adapted layer computes with, in float64."""
    if isinstance(layer, Adapted):
        layer = copy.deepcopy(layer).double()  # the sum is then rounded once, and in float64
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach().double()


def low_rank_part(layer: nn.Module) -> LowRankLinear | None:
    if isinstance(layer, DoRALinear):
        return layer.direction
    return layer if isinstance(layer, LowRankLinear) else None


def steps(
    layers: Mapping[str, nn.Module], progress: Progress[Any] | None
) -> Iterable[tuple[str, nn.Module]]:
    steps = list(layers.items())
    return steps if progress is None else progress(steps)


def check_named(name: str, weight: Tensor) -> None:
    if not torch.isfinite(weight).all():
        raise AdaptationError(f"the weight of {name} holds values that are not finite")
