"""A change of a network, apart from any network: taken from one, put onto another."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .dora import DoRALinear
from .errors import AdaptationError, brief
from .inject import find
from .low_rank import Adapted, Added, LowRankLinear, Split, finite, in_groups, residual
from .record import Adaptation, base_name, digests, recall, remember
from .state import adapted_layers, adapter_parameters

logger = logging.getLogger(__name__)

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
COUNTS = (torch.int64,)  # such as the batches that a batch norm has seen
LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class LayerInfo:
    """What the tensors of a low-rank layer do not say themselves.

    Attributes:
        rank: of what is trained; the tensors have twice that if `moved`.
        groups: parts stacked in the weight's rows, 3 for a fused qkv.
        scale: factor s of the low-rank term, positive, within float32.
        moved: whether the start of the term was taken out of the original weight.
        differences: of such a layer, whether the tensors are [up - up0, up0] and
            [down; down - down0] in place of [up, -up0] and [down; down0].

    Raises:
        AdaptationError: a value that is no such number.
    """

    rank: int
    groups: int
    scale: float
    moved: bool
    differences: bool = False

    def __post_init__(self) -> None:
        counts = all(type(value) is int and value >= 1 for value in (self.rank, self.groups))
        scale = type(self.scale) in (int, float) and 0 < self.scale <= LARGEST
        flags = type(self.moved) is bool and type(self.differences) is bool
        if not counts or not scale or not flags or (self.differences and not self.moved):
            raise AdaptationError(
                "rank and groups are whole numbers from 1 on, scale is positive, moved and "
                "differences are true or false, the latter only where moved; got "
                f"{brief(asdict(self))}"
            )


@dataclass(frozen=True)
class Adapter:
    """A change of a network, apart from any network. Consistent and finite, or it is not made.

    Attributes:
        adaptation: how the network was adapted.
        layers: the low-rank layers.
        tensors: `<layer>.up`, `<layer>.down`, `<layer>.magnitude` as the module says, and tensors
            of the plain network under their own names.

    Raises:
        AdaptationError: a tensor is missing, misshapen or not finite.
    """

    adaptation: Adaptation
    layers: Mapping[str, LayerInfo]
    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for name, info in self.layers.items():
            _check_layer(name, info, self.tensors)
        own = self.own()
        for name in own:
            if name.removesuffix(".weight") in self.layers:
                raise AdaptationError(f"{name} belongs to a low-rank layer and cannot be replaced")
        for name, value in self.tensors.items():
            if value.dtype not in (*DTYPES, *COUNTS) or (value.dtype in COUNTS and name not in own):
                raise AdaptationError(f"{name} is of type {value.dtype}: only floats are adapted")
        bad = [name for name, value in self.tensors.items() if not finite(value)]
        if bad:
            raise AdaptationError(
                f"{len(bad)} tensors of the adapter hold NaN or infinity, such as {bad[0]}: the "
                "training diverged; go back to an earlier checkpoint"
            )

    def own(self) -> dict[str, Tensor]:
        """Return the tensors that replace those of the plain network."""
        parts = {f"{layer}.{part}" for layer in self.layers for part in ("up", "down", "magnitude")}
        return {name: value for name, value in self.tensors.items() if name not in parts}

    def shape(self, layer: str) -> tuple[int, int]:
        """Return (out, in) of a low-rank layer."""
        up, down = self.tensors[f"{layer}.up"], self.tensors[f"{layer}.down"]
        return up.shape[0] * up.shape[1], down.shape[2]


def collect(net: nn.Module) -> Adapter:
    """Return what training changed in `net`: low-rank terms and all other tensors that train.

    These are those that the recipe set free and those that require a gradient now. A compiled
    network gives what the one inside has.

    The running statistics of batch norms go with them. Other buffers are taken to be constant.

    Raises:
        AdaptationError: `net` is not adapted, nothing in it is trained, or values are not finite.
    """
    net = getattr(net, "_orig_mod", net)  # of torch.compile
    adaptation = recall(net)
    if adaptation is None:
        inside = [name for name, module in net.named_modules() if recall(module) is not None]
        hint = f"give its {inside[0]} instead" if inside else "call a recipe such as SoRA() on it"
        raise AdaptationError(f"this {type(net).__name__} carries no adaptation: {hint}")
    if adaptation.method == "inject" and not any(p.requires_grad for p in net.parameters()):
        raise AdaptationError(
            "no parameter requires a gradient, so that it is unknown which were trained: save "
            "before freezing the network"
        )
    layers: dict[str, LayerInfo] = {}
    tensors: dict[str, Tensor] = {}
    for name, module in adapted_layers(net).items():
        layer = module.direction if isinstance(module, DoRALinear) else module
        if not isinstance(layer, LowRankLinear):
            raise AdaptationError(f"adapter files cannot hold {name}, a {type(layer).__name__}")
        layers[name] = LayerInfo(layer.rank, layer.groups, layer.scale, layer.up0 is not None)
        tensors[f"{name}.up"], tensors[f"{name}.down"] = layer.change()
        if isinstance(module, DoRALinear):
            tensors[f"{name}.magnitude"] = module.magnitude
    tensors.update(_trained(net, adaptation.trained))
    known = {name: adaptation.digests.get(name, "") for name in layers}
    return Adapter(
        replace(adaptation, digests={**adaptation.digests, **known}),
        layers,
        {name: value.detach().cpu().clone() for name, value in tensors.items()},
    )


def attach(net: nn.Module, adapter: Adapter, *, check: bool = True) -> nn.Module:
    """Adapt a plain network as `adapter` says, in place, and return it.

    The network must hold its original weights. Afterwards it computes and trains what the one that
    the adapter came from did: the residual of a weight is taken from the file, no SVD is made.

    Args:
        net: with the layers of the adapter, not adapted.
        adapter: from a file, another network, or another format.
        check: refuse a network whose weights are not those the adapter was made for. An adapter
            that does not know them (one of another library) is accepted with a warning.

    Raises:
        AdaptationError: layers or tensors are missing or of another shape, `net` is adapted, its
            weights are others, or its type cannot hold the adapted ones. `net` is as before.
    """
    if adapted_layers(net) or recall(net) is not None:
        raise AdaptationError(
            f"this {type(net).__name__} is adapted already: load onto the network with its "
            "pretrained weights"
        )
    layers = _find_layers(net, adapter)
    own = adapter.own()
    _check_own(net, own)
    adaptation = _check_base(net, adapter.adaptation) if check else adapter.adaptation
    built = {name: _build(name, layer, adapter) for name, layer in layers.items()}
    _check_built(built)
    for name, module in built.items():
        net.set_submodule(name, module)
    net.requires_grad_(False)
    state = net.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, value in own.items():
            state[name].copy_(value)
    trained = [p for _, p in adapter_parameters(net)] + [state[name] for name in own]
    for tensor in trained:
        tensor.requires_grad_(isinstance(tensor, nn.Parameter))
    names = tuple(name for name in own if isinstance(state[name], nn.Parameter))
    remember(net, replace(adaptation, trained=names))
    return net


def _trained(net: nn.Module, known: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    """Yield what trains beside low-rank terms, and what batch norms gather."""
    factors = {id(parameter) for _, parameter in adapter_parameters(net)}
    for name, parameter in net.named_parameters():
        if (parameter.requires_grad or name in known) and id(parameter) not in factors:
            yield name, parameter
    for prefix, module in net.named_modules():
        if isinstance(module, _BatchNorm):
            for name, buffer in module.named_buffers(recurse=False):
                yield f"{prefix}.{name}" if prefix else name, buffer


def _check_layer(name: str, info: LayerInfo, tensors: Mapping[str, Tensor]) -> None:
    missing = [part for part in ("up", "down") if f"{name}.{part}" not in tensors]
    if missing:
        raise AdaptationError(f"the adapter lacks the tensor {name}.{missing[0]}")
    up, down = tensors[f"{name}.up"], tensors[f"{name}.down"]
    width = info.rank * (2 if info.moved else 1)
    if not (
        up.dim() == down.dim() == 3
        and len(up) == len(down) == info.groups
        and up.shape[2] == down.shape[1] == width
    ):
        raise AdaptationError(
            f"{name}: up {tuple(up.shape)} and down {tuple(down.shape)} do not fit {info}"
        )
    magnitude = tensors.get(f"{name}.magnitude")
    if magnitude is not None and magnitude.shape != (up.shape[0] * up.shape[1],):
        raise AdaptationError(
            f"{name}: {tuple(magnitude.shape)} lengths do not fit up {tuple(up.shape)}"
        )


def _find_layers(net: nn.Module, adapter: Adapter) -> dict[str, nn.Linear]:
    """Return the layers of `net` that become low-rank, by name, in the order of the adapter."""
    modules = dict(net.named_modules(remove_duplicate=False))
    linears = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    wanted = dict.fromkeys([*adapter.layers, *adapter.adaptation.digests])
    lacking = [name for name in wanted if name not in linears]
    if lacking:
        near = get_close_matches(lacking[0], linears, n=3, cutoff=0.3)
        raise AdaptationError(
            f"this {type(net).__name__} lacks {len(lacking)} Linear layers of the adapter, such as "
            f"{lacking[0]}; nearest: {', '.join(near) or 'none'}. The adapter was made for "
            f"{adapter.adaptation.base or 'an unnamed network'}"
        )
    if not adapter.layers:
        return {}
    layers = find(net, select=lambda name: name in adapter.layers)
    for name in adapter.layers:
        shape = tuple(layers[name].weight.shape)
        if shape != adapter.shape(name):
            raise AdaptationError(
                f"{name} has a weight of shape {shape}, the adapter is for {adapter.shape(name)}: "
                f"it was made for {adapter.adaptation.base or 'another network'}"
            )
    return {name: layers[name] for name in adapter.layers}


def _check_own(net: nn.Module, own: Mapping[str, Tensor]) -> None:
    state = net.state_dict()
    for name, value in own.items():
        if name not in state:
            near = get_close_matches(name, list(state), n=3)
            raise AdaptationError(
                f"this {type(net).__name__} has no tensor {name}; nearest: "
                f"{', '.join(near) or 'none'}"
            )
        if state[name].shape != value.shape:
            raise AdaptationError(
                f"{name} has shape {tuple(state[name].shape)}, in the adapter {tuple(value.shape)}"
            )
        kind = state[name].dtype
        if kind.is_floating_point != value.is_floating_point() or not finite(value.to(kind)):
            raise AdaptationError(
                f"{name} is of type {kind}, which cannot hold the adapter's {value.dtype}"
            )


def _check_built(layers: Mapping[str, Adapted]) -> None:
    for name, layer in layers.items():
        for part, value in layer.state_dict().items():
            if not finite(value):
                raise AdaptationError(
                    f"{name}.{part} would not be finite in {value.dtype}: look at the network's "
                    "weights, or give it a wider type"
                )


def _check_base(net: nn.Module, adaptation: Adaptation) -> Adaptation:
    """Compare the weights of `net` with those the adapter was made for; fill in unknown ones."""
    found = replace(adaptation, digests=digests(net, adaptation.digests))
    other = [n for n, known in adaptation.digests.items() if known and known != found.digests[n]]
    if other:
        raise AdaptationError(
            f"this {base_name(net)} is another base than that of the adapter "
            f"({adaptation.base}): {len(other)} of {len(found.digests)} weights differ, such as "
            f"{other[0]}; fingerprint {found.fingerprint[:16]} instead of "
            f"{adaptation.fingerprint[:16]}. Load the pretrained weights that the adapter was "
            "trained on, unrounded, or pass check=False if you know that they are the same"
        )
    if not all(adaptation.digests.values()):
        logger.warning(
            "the %s adapter has no fingerprint: whether %s is its base is not checked",
            adaptation.method,
            base_name(net),
        )
    return found


def in_differences(adapter: Adapter) -> Adapter:
    """Return the same change, in tensors that survive rounding; see `LayerInfo.differences`."""
    tensors, layers = dict(adapter.tensors), dict(adapter.layers)
    for name, info in adapter.layers.items():
        if info.moved and not info.differences:
            up, down = tensors[f"{name}.up"], tensors[f"{name}.down"]
            now, start = _now_and_start(info, up, down)
            assert start is not None
            tensors[f"{name}.up"] = torch.cat([now[0] - start[0], start[0]], 2)
            tensors[f"{name}.down"] = torch.cat([now[1], now[1] - start[1]], 1)
            layers[name] = replace(info, differences=True)
    return replace(adapter, tensors=tensors, layers=layers)


def _now_and_start(
    info: LayerInfo, up: Tensor, down: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None]:
    """Return the low-rank term of now, and that of the start if it was taken out of the weight."""
    first_up, first_down = up[:, :, : info.rank], down[:, : info.rank]
    if not info.moved:
        return (first_up, first_down), None
    last_up, last_down = up[:, :, info.rank :], down[:, info.rank :].contiguous()
    if info.differences:
        return (first_up + last_up, first_down), (last_up, first_down - last_down)
    return (first_up, first_down), (-last_up, last_down)


def _build(name: str, linear: nn.Linear, adapter: Adapter) -> Adapted:
    info, weight = adapter.layers[name], linear.weight.detach()
    scale = float(info.scale)  # which may be a whole number, and too large for a tensor's
    kind = torch.promote_types(weight.dtype, torch.float32)
    up, down = (
        adapter.tensors[f"{name}.{part}"].to(weight.device, kind) for part in ("up", "down")
    )
    parts = in_groups(weight, info.groups)
    now, start = _now_and_start(info, up, down)
    if start is not None:
        split = Split(residual(parts, *start, scale), *start)
    else:
        split = Added(parts.clone(), *now)
    magnitude = adapter.tensors.get(f"{name}.magnitude")
    layer = LowRankLinear(
        split, linear.bias if magnitude is None else None, scale=scale, train_bias=False
    )
    with torch.no_grad():
        layer.up.copy_(now[0])
        layer.down.copy_(now[1])
        if magnitude is None:
            return layer.train(linear.training)
        outer = DoRALinear(layer, linear.bias, train_bias=False)
        outer.magnitude.copy_(magnitude)
    return outer.train(linear.training)
