"""Swap chosen Linear layers of any module."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from difflib import get_close_matches

from torch import nn

from .errors import AdaptationError
from .record import Adaptation, base_name, digests, recall, remember
from .select import Select, leaf_names
from .state import adapted_layers

Wrap = Callable[[str, nn.Linear], nn.Module]


def inject(
    net: nn.Module, *, select: Select, wrap: Wrap, record: Adaptation | None = None
) -> list[str]:
    """Replace every selected Linear layer by `wrap(name, layer)` and return their names.

    All replacements are made before the first is put in place: if one fails, `net` is as before.
    What was done is kept in `net.sora_adaptation`, for adapter files: `record`, or digests of the
    weights as they were.

    Raises:
        AdaptationError: no layer is selected, or a selected layer has several names in `net` or is
            adapted already.
    """
    layers = find(net, select=select)
    record = record or Adaptation("inject", digests(net, layers), base_name(net))
    wrapped = {name: _named(name, layer, wrap) for name, layer in layers.items()}
    for name, layer in wrapped.items():
        net.set_submodule(name, layer)
    earlier = recall(net)
    if earlier is not None:
        record = replace(record, digests={**earlier.digests, **record.digests})
    remember(net, record)
    return list(layers)


def find(net: nn.Module, *, select: Select) -> dict[str, nn.Linear]:
    """Return the selected Linear layers of `net` by name, if they can be adapted.

    Raises:
        AdaptationError: as `inject`.
    """
    twice = [name for name in adapted_layers(net) if select(name)]
    if twice:
        raise AdaptationError(
            f"{len(twice)} selected layers are adapted already, such as {twice[0]}: build the "
            "network anew, or merge() it first"
        )
    linears = {n: m for n, m in net.named_modules(remove_duplicate=False) if _is_linear(n, m)}
    chosen = {name: layer for name, layer in linears.items() if select(name)}
    if not chosen:
        raise AdaptationError(
            f"no Linear layer is selected; this {type(net).__name__} has: {_shown(linears, select)}"
        )
    parameters = list(net.named_parameters(remove_duplicate=False))
    for name, layer in chosen.items():
        if not isinstance(layer._parameters.get("weight"), nn.Parameter):
            raise AdaptationError(
                f"the weight of {name} is computed by a parametrization: remove it first"
            )
        shared = [other for other, module in linears.items() if module is layer]
        if len(shared) > 1:
            raise AdaptationError(
                f"one layer has several names, adapt it by hand: {', '.join(shared)}"
            )
        for part, own in (("weight", layer.weight), ("bias", layer.bias)):
            tied = [n for n, p in parameters if p is own and n != f"{name}.{part}"]
            if tied:
                raise AdaptationError(
                    f"the {part} of {name} is tied to {tied[0]}, adapt it by hand"
                )
    return chosen


def linear_leaves(net: nn.Module, select: Select) -> list[str]:
    """Return the distinct last name components of the selected Linear layers of `net`, sorted."""
    linears = [n for n, m in net.named_modules() if _is_linear(n, m)]
    return sorted({n.rpartition(".")[2] for n in linears if select(n)})


def check_leaves(net: nn.Module, names: Iterable[str], select: Select) -> None:
    """Raise AdaptationError for a name that no Linear layer of `net` within `select` ends in."""
    present = linear_leaves(net, select)
    for name in names:
        if name not in present:
            near = get_close_matches(name, present, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise AdaptationError(
                f"no adapted block has a Linear layer called {name!r}, only {present}{hint}"
            )


def _is_linear(name: str, module: nn.Module) -> bool:
    return bool(name) and isinstance(module, nn.Linear)


def _shown(linears: Iterable[str], select: Select) -> str:
    """Name a layer of every kind, and the kinds that come nearest to what was looked for."""
    kinds: dict[str, str] = {}
    for name in linears:
        kinds.setdefault(name.rpartition(".")[2], name)
    few = list(kinds.values())[:8]
    more = " ..." if len(few) < len(kinds) else ""
    near = [get_close_matches(name, list(kinds), n=1, cutoff=0.3) for name in leaf_names(select)]
    meant = ", ".join(dict.fromkeys(repr(kind) for found in near for kind in found))
    return f"{', '.join(few) or 'none'}{more}{f'; did you mean {meant}?' if meant else ''}"


def _named(name: str, layer: nn.Linear, wrap: Wrap) -> nn.Module:
    try:
        return wrap(name, layer)
    except AdaptationError as error:
        raise AdaptationError(f"layer {name}: {error}") from error
