"""Adaptation methods as callables: a pretrained network in, the same network adapted out."""

import logging
from collections.abc import Sequence
from typing import Protocol

from torch import nn

from .inject import check_leaves, inject
from .lora import start_at_zero
from .low_rank import LowRankLinear, Start, low_rank
from .select import block_index, blocks, every, leaf
from .sora import split_minor
from .state import trainable

logger = logging.getLogger(__name__)

FUSED_PARTS = {"qkv": 3}


class Recipe(Protocol):
    """Adapts a network in place and returns it."""

    def __call__(self, net: nn.Module) -> nn.Module: ...


# Plain classes, because OmegaConf would take a dataclass for the schema of a config node.
class _LowRank:
    """What SoRA and its rivals share: which layers, how wide, how scaled."""

    start: Start  # how a weight is split

    def __init__(
        self,
        *,
        rank: int = 16,
        alpha: float | None = None,
        start_block: int | None = None,
        targets: Sequence[str] | None = None,
        train_bias: bool = True,
    ) -> None:
        self.rank, self.alpha, self.start_block = rank, alpha, start_block
        self.targets = None if targets is None else tuple(targets)
        self.train_bias = train_bias

    def __call__(self, net: nn.Module) -> nn.Module:
        return _adapt(net, self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in vars(self).items())})"


class SoRA(_LowRank):
    """Train the minor singular components of the late blocks (arXiv 2412.04077).

    Call it on a network that holds its pretrained weights already: it decomposes what it finds.

    Args:
        rank: r of every adapted matrix, 1 to its smaller side.
        alpha: scale s = alpha / rank; None means alpha = rank.
        start_block: first adapted block; None means a third of the depth (8 of 24, as published).
        targets: last name components of the layers to adapt; None means every Linear layer of a
            block. A fused qkv is decomposed as q, k and v.
        train_bias: whether the biases of adapted layers are trained, as published.
    """

    start = staticmethod(split_minor)


class LoRA(_LowRank):
    """Train a low-rank term that starts at zero (arXiv 2106.09685); arguments as for SoRA."""

    start = staticmethod(start_at_zero)


class Frozen:
    """Train nothing of the network."""

    def __call__(self, net: nn.Module) -> nn.Module:
        return net.requires_grad_(False)

    def __repr__(self) -> str:
        return "Frozen()"


class Full:
    """Train whatever the network itself leaves trainable: ordinary fine-tuning."""

    def __call__(self, net: nn.Module) -> nn.Module:
        return net

    def __repr__(self) -> str:
        return "Full()"


def _adapt(net: nn.Module, recipe: _LowRank) -> nn.Module:
    depth = 1 + max(
        (i for n, _ in net.named_modules() if (i := block_index(n)) is not None), default=-1
    )
    if depth == 0:
        raise ValueError(
            f"{type(net).__name__} has no blocks.0, blocks.1, ...: use inject() itself"
        )
    first = depth // 3 if recipe.start_block is None else recipe.start_block
    if not 0 <= first < depth:
        raise ValueError(f"start_block must be 0..{depth - 1} for {depth} blocks, got {first}")
    select = blocks(first)
    if recipe.targets is not None:
        check_leaves(net, recipe.targets)
        select = every(select, leaf(*recipe.targets))

    def wrap(name: str, linear: nn.Linear) -> LowRankLinear:
        return low_rank(
            linear,
            rank=recipe.rank,
            alpha=recipe.alpha,
            start=recipe.start,
            groups=FUSED_PARTS.get(name.rpartition(".")[2], 1),
            train_bias=recipe.train_bias,
        )

    adapted = inject(net, select=select, wrap=wrap)
    _freeze_rest(net, adapted, train_bias=recipe.train_bias)
    logger.info("%s in blocks %d to %d: %s", recipe, first, depth - 1, trainable(net))
    return net


def _freeze_rest(net: nn.Module, adapted: list[str], *, train_bias: bool) -> None:
    net.requires_grad_(False)
    for name in adapted:
        layer = net.get_submodule(name)
        for parameter in (layer.up, layer.down):
            parameter.requires_grad_(True)
        if train_bias:
            for bias in _biases(net, name):
                bias.requires_grad_(True)


def _biases(net: nn.Module, name: str) -> list[nn.Parameter]:
    """Return the bias of layer `name`; EVA keeps those of a fused qkv beside it, as q_bias ..."""
    parent, _, last = name.rpartition(".")
    beside = [getattr(net.get_submodule(parent), f"{part}_bias", None) for part in last]
    candidates = [net.get_submodule(name).bias, *(beside if last in FUSED_PARTS else [])]
    return [bias for bias in candidates if isinstance(bias, nn.Parameter)]
