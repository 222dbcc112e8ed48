"""Swap chosen Linear layers of any module."""

from collections.abc import Callable
from difflib import get_close_matches

from torch import nn

from .low_rank import LowRankLinear
from .select import Select

Wrap = Callable[[str, nn.Linear], nn.Module]


def inject(net: nn.Module, *, select: Select, wrap: Wrap) -> list[str]:
    """Replace every selected Linear layer by `wrap(name, layer)` and return their names.

    All replacements are made before the first is put in place: if one fails, `net` is as before.

    Raises:
        ValueError: no layer is selected, or a selected layer has several names in `net`.
    """
    linears = {n: m for n, m in net.named_modules(remove_duplicate=False) if _is_linear(n, m)}
    chosen = {name: layer for name, layer in linears.items() if select(name)}
    if not chosen:
        raise ValueError(_no_match(net, list(linears)))
    for name, layer in chosen.items():
        shared = [other for other, module in linears.items() if module is layer]
        if len(shared) > 1:
            raise ValueError(f"one layer has several names, adapt it by hand: {', '.join(shared)}")
        if any(layer.weight is m.weight for n, m in linears.items() if n != name):
            raise ValueError(f"the weight of {name} is tied to another layer, adapt it by hand")
    wrapped = {name: _named(name, layer, wrap) for name, layer in chosen.items()}
    for name, layer in wrapped.items():
        net.set_submodule(name, layer)
    return list(wrapped)


def linear_leaves(net: nn.Module) -> list[str]:
    """Return the distinct last name components of the Linear layers of `net`, sorted."""
    return sorted({n.rpartition(".")[2] for n, m in net.named_modules() if _is_linear(n, m)})


def check_leaves(net: nn.Module, names: tuple[str, ...]) -> None:
    """Raise ValueError for a name that no Linear layer of `net` ends in."""
    present = linear_leaves(net)
    for name in names:
        if name not in present:
            near = get_close_matches(name, present, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"no Linear layer is called {name!r}, only {present}{hint}")


def _is_linear(name: str, module: nn.Module) -> bool:
    return bool(name) and isinstance(module, nn.Linear)


def _no_match(net: nn.Module, linears: list[str]) -> str:
    adapted = [n for n, m in net.named_modules() if isinstance(m, LowRankLinear)]
    if adapted:
        return f"no Linear layer is selected; {len(adapted)} layers are adapted already"
    shown = ", ".join(linears[:8]) + (" ..." if len(linears) > 8 else "")
    return f"no Linear layer is selected; this {type(net).__name__} has: {shown or 'none'}"


def _named(name: str, layer: nn.Linear, wrap: Wrap) -> nn.Module:
    try:
        return wrap(name, layer)
    except ValueError as error:
        raise ValueError(f"layer {name}: {error}") from error
