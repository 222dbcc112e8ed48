"""The paper's analysis: singular values of weights, and networks without some of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .decompose import Progress
from .errors import AdaptationError
from .select import Select
from .svd import End, triplets
from .weights import (
    check_named,
    effective_weight,
    in_parts,
    linear_layers,
    part_names,
    steps,
)


@dataclass(frozen=True)
class Spectrum:
    """The singular values of one matrix.

    Attributes:
        name: of the matrix, such as "blocks.8.attn.q".
        shape: out, in.
        values: descending, min(out, in) of them.
        effective_rank: see `effective_rank`.
    """

    name: str
    shape: tuple[int, int]
    values: tuple[float, ...]
    effective_rank: float


def effective_rank(values: Tensor) -> float:
    """Return exp of the entropy of the singular values divided by their sum; 0 if all are 0.

    Roy and Vetterli 2007 ("The effective rank: a measure of effective dimensionality"): r equal
    singular values give r, and a long weak tail adds little.
    """
    total = values.double().sum()
    if total == 0:
        return 0.0
    share = values.double() / total
    return float(torch.special.entr(share).sum().exp())


def spectra(
    net: nn.Module, *, select: Select | None = None, progress: Progress[Any] | None = None
) -> tuple[Spectrum, ...]:
    """Return the singular values of the effective weights, decomposed exactly in float64.

    Args:
        net: adapted or not.
        select: which layers, by name; None means all.
        progress: wraps the sequence of layers, as tqdm does.

    Raises:
        AdaptationError: no layer is selected, or a weight is not finite.
    """
    found = []
    for name, layer in steps(linear_layers(net, select), progress):
        weights = in_parts(name, effective_weight(layer))
        for part, weight in zip(part_names(name), weights, strict=True):
            check_named(part, weight)
            values = torch.linalg.svdvals(weight)
            out, inner = weight.shape
            found.append(
                Spectrum(part, (out, inner), tuple(values.tolist()), effective_rank(values))
            )
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Ends:
    """The outermost singular components of one layer's weights, from the outside in.

    Attributes:
        minor: left (part, out, count) with the singular values multiplied in, and right
            (part, count, in), the smallest first.
        principal: likewise, the largest first.
    """

    minor: tuple[Tensor, Tensor]
    principal: tuple[Tensor, Tensor]

    def product(self, end: End, count: int) -> Tensor:
        """Return the sum (part, out, in) of the `count` outermost components, in float64."""
        left, right = self.minor if end == "minor" else self.principal
        if not 0 <= count <= left.shape[-1]:
            raise AdaptationError(f"count must be 0..{left.shape[-1]}, got {count}")
        return left[..., :count].double() @ right[:, :count].double()


def find_ends(
    net: nn.Module, layers: Iterable[str], count: int, *, progress: Progress[Any] | None = None
) -> dict[str, Ends]:
    """Return the `count` strongest and weakest components of the effective weight of each layer.

    Args:
        net: adapted or not.
        layers: names of Linear layers.
        count: per matrix, 1 to the smaller side of the smallest.
        progress: wraps the sequence of layers, as tqdm does.

    Raises:
        AdaptationError: a name that is no Linear layer, a count out of range, or a weight that is
            not finite.
    """
    chosen = frozenset(layers)
    found = linear_layers(net, chosen.__contains__)
    if unknown := sorted(chosen - set(found)):
        raise AdaptationError(f"no Linear layer is called {', '.join(unknown[:5])}")
    ends = {}
    for name, layer in steps(found, progress):
        weight = in_parts(name, effective_weight(layer))
        check_named(name, weight)
        ends[name] = Ends(
            _outermost(weight, count, "minor"), _outermost(weight, count, "principal")
        )
    return ends


def reduced(
    net: nn.Module, ends: Mapping[str, Ends], *, end: End, count: int
) -> dict[str, nn.Linear]:
    """Return plain layers without `count` singular components of every matrix, by name.

    Args:
        net: what `find_ends` was called with; it is not changed.
        ends: as it returned them.
        end: "minor" removes the weakest components, "principal" the strongest.
        count: 0 to what `find_ends` was asked for.

    Raises:
        AdaptationError: more components than there are in `ends`.
    """
    layers = {}
    for name, found in ends.items():
        layer = net.get_submodule(name)
        taken = found.product(end, count).flatten(0, 1)  # (out, in)
        layers[name] = _with_weight(layer, effective_weight(layer) - taken)
    return layers


@contextmanager
def exchanged(net: nn.Module, layers: Mapping[str, nn.Module]) -> Iterator[nn.Module]:
    """Let `net` compute with other layers, and put its own back afterwards.

    No weight of `net` is ever written to: it comes back bit-equal, also after an error.
    """
    own = {name: net.get_submodule(name) for name in layers}
    try:
        for name, layer in layers.items():
            net.set_submodule(name, layer)
        yield net
    finally:
        for name, layer in own.items():
            net.set_submodule(name, layer)


def _with_weight(layer: nn.Module, weight: Tensor) -> nn.Linear:
    """Return a plain layer with the bias of `layer`, itself, and another weight (out, in)."""
    out, inner = weight.shape
    bias, own = layer.bias, layer.weight
    assert isinstance(own, Tensor)
    linear = nn.Linear(inner, out, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.to(own.dtype), requires_grad=False)
    if isinstance(bias, nn.Parameter):
        linear.bias = bias
    return linear.train(layer.training)


def _outermost(weight: Tensor, count: int, end: End) -> tuple[Tensor, Tensor]:
    u, s, vh = triplets(weight, count, end=end)
    left, right = u * s[..., None, :], vh
    if end == "minor":  # they come descending
        left, right = left.flip(-1), right.flip(-2)
    return left.float(), right.float()
