"""Put a low-rank method into the late blocks of a transformer."""

import logging
from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor, nn

from .decompose import Plan, Progress, check_plans
from .errors import AdaptationError
from .inject import check_leaves, find, inject
from .low_rank import Adapted, Split, check_finite, in_groups
from .record import Adaptation, base_name, digests, recall, remember
from .select import FUSED_PARTS, block_index, blocks, every, leaf
from .state import adapted_layers, adapter_parameters, trainable

logger = logging.getLogger(__name__)


class LowRankMethod(Protocol):
    """What a recipe must say to be applied here; `sora_det.adapt.recipes.LoRA` documents it."""

    rank: int
    start_block: int | None
    targets: tuple[str, ...] | None
    train_bias: bool
    ramp: tuple[tuple[int, int], ...] | None

    def options(self) -> dict[str, Any]: ...

    def scale(self, rank: int) -> float: ...

    def splits(
        self, plans: dict[str, Plan], originals: dict[str, str], progress: Progress[Any] | None
    ) -> dict[str, Split]: ...

    def layer(self, split: Split, bias: Tensor | None, scale: float) -> Adapted: ...


def adapt_blocks(
    net: nn.Module, method: LowRankMethod, progress: Progress[Any] | None
) -> nn.Module:
    """Adapt the Linear layers of the blocks that `method` names, freeze the rest, return `net`.

    Raises:
        AdaptationError: anything that cannot be done; `net` is then as before.
    """
    check_plain(net)
    first = first_block(net, method.start_block)
    select = blocks(first)
    if method.targets is not None:
        check_leaves(net, method.targets, select)
        select = every(select, leaf(*method.targets))
    layers = find(net, select=select)
    _check_ramp(net, method.ramp)
    plans = {name: _plan(name, layer, method) for name, layer in layers.items()}
    check_plans(plans)
    originals = digests(net, layers)
    splits = method.splits(plans, originals, progress)

    def wrap(name: str, linear: nn.Linear) -> Adapted:
        return method.layer(splits.pop(name), linear.bias, plans[name].scale)

    name = type(method).__name__
    record = Adaptation(name, originals, base_name(net), method.options(), first)
    inject(net, select=layers.__contains__, wrap=wrap, record=record)
    _freeze_rest(net, train_bias=method.train_bias)
    own = {id(parameter) for _, parameter in adapter_parameters(net)}
    trained = [n for n, p in net.named_parameters() if p.requires_grad and id(p) not in own]
    remember(net, replace(record, trained=tuple(trained)))
    logger.info("%s in the blocks from %d on: %s", method, first, trainable(net))
    return net


def check_plain(net: nn.Module) -> None:
    """Raise AdaptationError for values that are not finite, or if `net` is adapted already.

    What two adaptations freeze and train would mix.
    """
    before = recall(net)
    count = len(adapted_layers(net))
    if before is not None or count:
        how = "" if before is None else f" by {before.method}"
        raise AdaptationError(
            f"this {type(net).__name__} is adapted already{how} ({count} layers): build it anew, "
            "or merge() it first"
        )
    check_values(net)


def check_values(net: nn.Module) -> None:
    """Raise AdaptationError for a tensor of `net` that is not finite, or not there at all.

    Buffers may be infinite: masks of attentions are.
    """
    buffers = {name for name, _ in net.named_buffers()}
    for name, value in net.state_dict().items():
        if value.is_meta:
            raise AdaptationError(f"{name} has no values yet (device meta): load weights first")
        try:
            if value.is_floating_point():
                check_finite(value.masked_fill(value.isinf(), 0) if name in buffers else value)
        except AdaptationError as error:
            raise AdaptationError(f"{name}: {error}") from error


def first_block(net: nn.Module, start_block: int | None) -> int:
    """Return the first block to be adapted; None stands for a third of the depth."""
    depth = _depth(net)
    if depth == 0:
        raise AdaptationError(
            f"{type(net).__name__} has no blocks.0, blocks.1, ...: use inject() itself"
        )
    first = depth // 3 if start_block is None else start_block
    if type(first) is not int:
        raise AdaptationError(f"start_block must be a whole number, got {start_block!r}")
    if not 0 <= first < depth:
        raise AdaptationError(f"start_block must be 0..{depth - 1} for {depth} blocks, got {first}")
    return first


def _depth(net: nn.Module) -> int:
    numbers = [block_index(name) for name, _ in net.named_modules()]
    return 1 + max((number for number in numbers if number is not None), default=-1)


def _check_ramp(net: nn.Module, ramp: tuple[tuple[int, int], ...] | None) -> None:
    depth = _depth(net)
    for start, _ in ramp or ():
        if start >= depth:  # it would do nothing, in silence
            raise AdaptationError(
                f"the ramp has a step at block {start}, but the {depth} blocks are 0..{depth - 1}"
            )


def _plan(name: str, linear: nn.Linear, method: LowRankMethod) -> Plan:
    block = block_index(name)
    passed = [factor for start, factor in method.ramp or () if block is not None and block >= start]
    rank = method.rank * (passed[-1] if passed else 1)
    groups = FUSED_PARTS.get(name.rpartition(".")[2], 1)
    try:
        parts = in_groups(linear.weight.detach(), groups)
    except AdaptationError as error:
        raise AdaptationError(f"layer {name}: {error}; name other targets") from error
    return Plan(parts, rank, method.scale(rank))


def _freeze_rest(net: nn.Module, *, train_bias: bool) -> None:
    net.requires_grad_(False)
    adapted = adapted_layers(net)
    for name in adapted:
        for _, parameter in adapted[name].factors():
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
