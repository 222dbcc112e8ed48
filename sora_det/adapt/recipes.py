"""Adaptation methods as callables: a pretrained network in, the same network adapted out."""

import functools
import logging
import math
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from .apply import adapt_blocks, check_plain, first_block
from .decompose import Plan, Progress, split_again, split_all
from .dora import DoRALinear
from .errors import AdaptationError
from .files import load_adapter
from .inject import find
from .lora import start_at_zero
from .low_rank import Adapted, LowRankLinear, Split, Start
from .record import Adaptation, base_name, digests, remember, trained_names
from .select import blocks
from .sora import add_minor_of_random, split_minor, split_principal
from .start_file import read_start, write_start
from .state import trainable
from .svd import End, Solver, check_solver

logger = logging.getLogger(__name__)


class Recipe(Protocol):
    """Adapts a network in place and returns it.

    `progress` wraps the sequence of steps of something slow, as tqdm does.
    """

    def __call__(self, net: nn.Module, *, progress: Progress[Any] | None = None) -> nn.Module: ...


# Plain classes, because OmegaConf would take a dataclass for the schema of a config node.
class LoRA:
    """Train a low-rank term that starts at zero (arXiv 2106.09685).

    This is also the machinery of the methods below, which differ in how the term starts, how it is
    scaled, or what is trained beside it. Call it on a network that holds its pretrained weights.

    Args:
        rank: r of every adapted matrix, 1 to its smaller side.
        alpha: scale s = alpha / rank; None means alpha = rank.
        start_block: first adapted block; None means a third of the depth (8 of 24, as SoRA's
            authors published).
        targets: last name components of the layers to adapt; None means every Linear layer of a
            block. A fused qkv is adapted as q, k and v.
        train_bias: whether the biases of adapted layers are trained.
        ramp: pairs (block, factor): from that block on the rank is `factor * rank`. The reference's
            is [[12, 2], [16, 4], [20, 8]] for 24 blocks. A given alpha stays, so s falls as it
            does there.
    """

    def __init__(
        self,
        *,
        rank: int = 16,
        alpha: float | None = None,
        start_block: int | None = None,
        targets: Sequence[str] | None = None,
        train_bias: bool = True,
        ramp: Sequence[Sequence[int]] | None = None,
    ) -> None:
        if not _whole(rank, least=1):
            raise AdaptationError(f"rank must be a whole number from 1 on, got {rank!r}")
        if alpha is not None and not (isinstance(alpha, int | float) and 0 < alpha < math.inf):
            raise AdaptationError(f"alpha must be a positive number or None, got {alpha!r}")
        self.rank, self.alpha, self.start_block = rank, alpha, start_block
        self.targets = None if targets is None else _checked_targets(targets)
        self.train_bias = train_bias
        self.ramp = None if ramp is None else _checked_ramp(ramp)

    def __call__(self, net: nn.Module, *, progress: Progress[Any] | None = None) -> nn.Module:
        return adapt_blocks(net, self, progress)

    def options(self) -> dict[str, Any]:
        """Return the arguments that decide the result, as plain values."""
        return dict(vars(self))

    def __repr__(self) -> str:
        shown = {k: v for k, v in self.options().items() if (k, v) != ("ramp", None)}
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in shown.items())})"

    def scale(self, rank: int) -> float:
        """Return s for a layer of this rank."""
        return (rank if self.alpha is None else self.alpha) / rank

    def splits(
        self,
        plans: Mapping[str, Plan],
        originals: Mapping[str, str],
        progress: Progress[Any] | None,
    ) -> dict[str, Split]:
        """Return how every layer starts; `originals` holds the digests of their weights."""
        return split_all(plans, start_at_zero, progress=progress)

    def layer(self, split: Split, bias: Tensor | None, scale: float) -> Adapted:
        """Return the layer that takes the place of the Linear one."""
        return LowRankLinear(split, bias, scale=scale, train_bias=self.train_bias)


def _whole(value: Any, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _checked_targets(targets: Sequence[str]) -> tuple[str, ...]:
    if isinstance(targets, str):  # Python takes it for a list of letters
        raise AdaptationError(f"targets must be a list of names, got {targets!r}")
    if not all(isinstance(name, str) for name in targets):
        raise AdaptationError(f"targets must be a list of names, got {targets!r}")
    if not targets:
        raise AdaptationError("targets must name a layer; None means all of a block")
    return tuple(targets)


def _checked_ramp(ramp: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    try:
        pairs = tuple((block, factor) for block, factor in ramp)
    except (TypeError, ValueError):
        pairs = ((-1, 0),)
    whole = all(_whole(block, least=0) and _whole(factor, least=1) for block, factor in pairs)
    if not whole or any(one[0] >= two[0] for one, two in pairwise(pairs)):
        raise AdaptationError(
            "ramp must be pairs (block, factor), blocks ascending from 0 on, factors from 1 on, "
            f"got {ramp!r}"
        )
    return pairs


class RsLoRA(LoRA):
    """LoRA with s = alpha / sqrt(rank) (arXiv 2312.03732); arguments as for LoRA."""

    def scale(self, rank: int) -> float:
        return (rank if self.alpha is None else self.alpha) / math.sqrt(rank)


class DoRA(LoRA):
    """LoRA of the direction of every row, and its length (arXiv 2402.09353); as for LoRA."""

    def layer(self, split: Split, bias: Tensor | None, scale: float) -> Adapted:
        direction = LowRankLinear(split, None, scale=scale)
        return DoRALinear(direction, bias, train_bias=self.train_bias)


class SoRA(LoRA):
    """Train the minor singular components of the late blocks (arXiv 2412.04077).

    The paper's method needs one thing more, the annealing of the weight decay, which is the
    trainer's: `sora_det.engine.hooks.AnnealWeightDecay`.

    Args:
        rank, alpha, start_block, targets, train_bias, ramp: as for LoRA.
        start: `pretrained` decomposes the weights that the network holds, as the paper says;
            `official` repeats the published code, which decomposes random weights and adds their
            minor components to the whole pretrained weight.
        solver: `krylov`, or `exact` for the SVD itself; see `sora_det.adapt.svd.triplets`.
        start_file: how the low-rank terms start is read from here if it was written for the same
            weights and arguments; else it is computed and written here.
        seed: of the random weights of the official start, from 0; nothing else depends on it.
    """

    decompose = staticmethod(split_minor)
    end: End = "minor"

    def __init__(
        self,
        *,
        rank: int = 16,
        alpha: float | None = None,
        start_block: int | None = None,
        targets: Sequence[str] | None = None,
        train_bias: bool = True,
        ramp: Sequence[Sequence[int]] | None = None,
        start: Literal["pretrained", "official"] = "pretrained",
        solver: Solver = "krylov",
        start_file: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            rank=rank,
            alpha=alpha,
            start_block=start_block,
            targets=targets,
            train_bias=train_bias,
            ramp=ramp,
        )
        if start not in ("pretrained", "official"):
            raise AdaptationError(f"start must be 'pretrained' or 'official', got {start!r}")
        if start == "official" and self.end != "minor":
            raise AdaptationError(f"{type(self).__name__} has no official start: that is SoRA's")
        check_solver(solver, self.end)
        if not _whole(seed, least=0):
            raise AdaptationError(f"seed must be a whole number from 0 on, got {seed!r}")
        self.start, self.solver, self.start_file, self.seed = start, solver, start_file, seed

    def options(self) -> dict[str, Any]:
        without = {"start_file"} if self.start == "official" else {"start_file", "seed"}
        return {name: value for name, value in super().options().items() if name not in without}

    def splits(
        self,
        plans: Mapping[str, Plan],
        originals: Mapping[str, str],
        progress: Progress[Any] | None,
    ) -> dict[str, Split]:
        official = self.start == "official"
        ranks = {name: (plan.rank, len(plan.weight), plan.scale) for name, plan in plans.items()}
        key = {
            "weights": originals,
            "layers": ranks,
            "end": self.end,
            "solver": self.solver,
            "seed": self.seed if official else None,
        }
        if self.start_file and (known := read_start(self.start_file, key)):
            logger.info("%s starts as in %s", type(self).__name__, self.start_file)
            return split_again(plans, known, added=official)
        start: Start
        if official:
            generator = torch.Generator().manual_seed(self.seed)
            start = functools.partial(add_minor_of_random, solver=self.solver, generator=generator)
        else:
            start = functools.partial(self.decompose, solver=self.solver)
        begun = time.perf_counter()
        splits = split_all(plans, start, progress=progress)
        logger.info("decomposed %d layers in %.1f s", len(plans), time.perf_counter() - begun)
        dead = [name for name, split in splits.items() if not split.up.any()]
        if dead:
            logger.warning(
                "%d layers have zeros for components, so that they cannot train, such as %s",
                len(dead),
                dead[0],
            )
        if self.start_file:
            write_start(self.start_file, key, {n: (s.up, s.down) for n, s in splits.items()})
        return splits


class MiLoRA(SoRA):
    """Start as SoRA, and leave it at that (arXiv 2406.09044); arguments as for SoRA.

    The difference is the trainer's: no annealing of the weight decay.
    """


class PiSSA(SoRA):
    """Train the principal singular components (arXiv 2404.02948).

    Arguments as for SoRA, without the official start; `solver` may also be `randomized`.
    """

    decompose = staticmethod(split_principal)
    end: End = "principal"


class BitFit:
    """Train the biases of the late blocks, those of their norms included (arXiv 2106.10199).

    Args:
        start_block: first block that is trained; None means a third of the depth, as for the other
            methods; 0 is the published setting.
    """

    def __init__(self, *, start_block: int | None = None) -> None:
        self.start_block = start_block

    def __call__(self, net: nn.Module, *, progress: Progress[Any] | None = None) -> nn.Module:
        check_plain(net)
        first = first_block(net, self.start_block)
        select = blocks(first)
        layers = find(net, select=select)
        biases = {n: p for n, p in net.named_parameters() if select(n) and n.endswith("bias")}
        if not biases:
            raise AdaptationError(f"there is no bias in the blocks from {first} on: nothing trains")
        originals, options = digests(net, layers), {"start_block": self.start_block}
        record = Adaptation("BitFit", originals, base_name(net), options, first, tuple(biases))
        remember(net, record)
        net.requires_grad_(False)
        for bias in biases.values():
            bias.requires_grad_(True)
        logger.info("%s in blocks from %d: %s", self, first, trainable(net))
        return net

    def __repr__(self) -> str:
        return f"BitFit(start_block={self.start_block})"


class Frozen:
    """Train nothing of the network."""

    def __call__(self, net: nn.Module, *, progress: Progress[Any] | None = None) -> nn.Module:
        check_plain(net)
        remember(net, Adaptation("Frozen", digests(net, _linears(net)), base_name(net)))
        return net.requires_grad_(False)

    def __repr__(self) -> str:
        return "Frozen()"


class Merged(Frozen):
    """Train nothing of a network whose adapters have been merged.

    Args:
        method: that trained it, in words: results name it.
    """

    def __init__(self, *, method: str) -> None:
        self.method = method

    def __repr__(self) -> str:
        return f"{self.method}, merged"


class Full:
    """Train whatever the network itself leaves trainable: ordinary fine-tuning."""

    def __call__(self, net: nn.Module, *, progress: Progress[Any] | None = None) -> nn.Module:
        check_plain(net)
        originals = digests(net, _linears(net))
        remember(net, Adaptation("Full", originals, base_name(net), trained=trained_names(net)))
        return net

    def __repr__(self) -> str:
        return "Full()"


class Saved:
    """Adapt as an adapter file says and go on from there; see `sora_det.adapt.load_adapter`.

    Args:
        file: written by `save_adapter`, for a network with the same pretrained weights.
    """

    def __init__(self, *, file: str) -> None:
        if not file:
            raise AdaptationError(
                "no adapter file is given: set `file`, such as adapter.safetensors"
            )
        self.file = file

    def __call__(self, net: nn.Module, *, progress: Progress[Any] | None = None) -> nn.Module:
        load_adapter(net, self.file)
        logger.info("%s: %s", self, trainable(net))
        return net

    def __repr__(self) -> str:
        return f"Saved(file={Path(self.file).name})"


def _linears(net: nn.Module) -> list[str]:
    return [n for n, m in net.named_modules() if n and isinstance(m, nn.Linear)]
