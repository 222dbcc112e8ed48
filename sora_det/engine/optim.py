"""Parameter groups by role: what is trained how."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..adapt import adapter_parameters

logger = logging.getLogger(__name__)

Role = Literal["adapter", "backbone_bias", "backbone", "no_decay", "head"]

NORMS = (nn.LayerNorm, nn.GroupNorm, _BatchNorm)  # _BatchNorm: the base of all its kinds


def roles(
    model: nn.Module, *, trunk: Sequence[str], no_decay: Sequence[str] = ()
) -> dict[str, Role]:
    """Name the role of every trained parameter of `model`.

    Args:
        trunk: names of the submodules that hold pretrained weights; those `model` lacks are
            passed over.
        no_decay: name components whose parameters, outside the trunk, are spared weight decay.

    Returns:
        By parameter name: `adapter` for low-rank factors; within the trunk `backbone_bias` or
        `backbone`; elsewhere `no_decay` for normalisation layers and the names given, else `head`.
    """
    adapters = {id(parameter) for _, parameter in adapter_parameters(model)}
    normed = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, NORMS)
        for parameter in module.parameters(recurse=False)
    }

    def role(name: str, parameter: nn.Parameter) -> Role:
        if id(parameter) in adapters:
            return "adapter"
        if any(name.startswith(f"{prefix}.") for prefix in trunk):
            return "backbone_bias" if name.endswith("bias") else "backbone"
        spared = id(parameter) in normed or not set(no_decay).isdisjoint(name.split("."))
        return "no_decay" if spared else "head"

    return {n: role(n, p) for n, p in model.named_parameters() if p.requires_grad}


def param_groups(
    model: nn.Module,
    *,
    rates: Mapping[str, Mapping[str, float]],
    trunk: Sequence[str] = ("backbone.net", "backbone.bottom_up"),
    no_decay: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return one optimiser group per role, each with its `role` and `initial_weight_decay`.

    Args:
        model: a detector.
        rates: for each role a learning rate `lr` and a `weight_decay`; roles that the model does
            not have are passed over.
        trunk: see `roles`.
        no_decay: see `roles`.

    Raises:
        ValueError: nothing trains, or a role of the model has no rates.
    """
    parameters = dict(model.named_parameters())
    grouped: dict[str, list[nn.Parameter]] = defaultdict(list)
    for name, role in roles(model, trunk=trunk, no_decay=no_decay).items():
        grouped[role].append(parameters[name])
    if not grouped:
        raise ValueError("nothing to train: every parameter of the model is frozen")
    missing = sorted(set(grouped) - set(rates))
    if missing:
        raise ValueError(f"no rates for role {missing[0]!r}, only for {sorted(rates)}")
    return [_group(role, members, rates[role]) for role, members in sorted(grouped.items())]


def _group(role: str, members: list[nn.Parameter], rate: Mapping[str, float]) -> dict[str, Any]:
    lr, decay = float(rate["lr"]), float(rate["weight_decay"])
    count = sum(p.numel() for p in members)
    logger.info("role %s: %s parameters, lr %g, weight decay %g", role, f"{count:,}", lr, decay)
    return {
        "params": members,
        "role": role,
        "lr": lr,
        "weight_decay": decay,
        "initial_weight_decay": decay,
    }
