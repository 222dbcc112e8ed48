"""The paper's analysis: singular values of weights, weights without some, and how far they moved.

A fused qkv counts as three matrices, named `attn.q`, `attn.k` and `attn.v`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .decompose import Progress
from .dora import DoRALinear
from .errors import AdaptationError
from .low_rank import Adapted, LowRankLinear, in_groups
from .select import FUSED_PARTS, Select
from .state import adapted_layers
from .svd import End, triplets


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


@dataclass(frozen=True)
class Overlap:
    """Which share of a change's energy (squared Frobenius norm) lies in a singular subspace, 0..1.

    Attributes:
        left: of its columns, in the span of left singular vectors.
        right: of its rows, in the span of right singular vectors.
        both: on both sides at once.
    """

    left: float
    right: float
    both: float


@dataclass(frozen=True)
class Movement:
    """How far training has moved one matrix from its original value W.

    Attributes:
        name: of the matrix, such as "blocks.8.attn.q".
        shape: out, in.
        norm: Frobenius norm of W.
        change: Frobenius norm of W_now - W.
        relative: change / norm; None if W is 0.
        effective_rank: of W_now - W, see `effective_rank`; 0 if nothing has moved.
        rank: number of singular directions of W in each of the two subspaces below.
        minor: share in those of the smallest singular values; None if nothing has moved.
        principal: share in those of the largest; None if nothing has moved.
        chance: what a change without any preference of direction would have, on average.
    """

    name: str
    shape: tuple[int, int]
    norm: float
    change: float
    relative: float | None
    effective_rank: float
    rank: int
    minor: Overlap | None
    principal: Overlap | None
    chance: Overlap


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
    for name, layer in _steps(linear_layers(net, select), progress):
        for part, weight in zip(part_names(name), _parts(name, _effective(layer)), strict=True):
            _check_finite(part, weight)
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
    for name, layer in _steps(found, progress):
        weight = _parts(name, _effective(layer))
        _check_finite(name, weight)
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
        layers[name] = _with_weight(layer, _effective(layer) - taken)
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


def movement(name: str, original: Tensor, change: Tensor, *, rank: int) -> Movement:
    """Describe a change W_now - W of one matrix, computed in float64.

    Args:
        name: of the matrix.
        original: W, (out, in).
        change: W_now - W, (out, in).
        rank: of the subspaces of W that the change is compared with, 1 to min(out, in).

    Raises:
        AdaptationError: rank out of range or values that are not finite.
    """
    original, change = original.double(), change.double()
    _check_finite(name, torch.stack([original, change]))
    out, inner = change.shape
    norm, moved = float(original.norm()), float(change.norm())
    overlaps = [_overlap(original, change, rank, end) for end in ("minor", "principal")]
    return Movement(
        name=name,
        shape=(out, inner),
        norm=norm,
        change=moved,
        relative=moved / norm if norm else None,
        effective_rank=effective_rank(torch.linalg.svdvals(change)),
        rank=rank,
        minor=overlaps[0],
        principal=overlaps[1],
        chance=Overlap(rank / out, rank / inner, rank * rank / (out * inner)),
    )


def movements(
    net: nn.Module,
    *,
    original: nn.Module | None = None,
    rank: int = 16,
    select: Select | None = None,
    progress: Progress[Any] | None = None,
) -> tuple[Movement, ...]:
    """Return how far training has moved each Linear layer from its original weight.

    Args:
        net: after training.
        original: the network before adaptation, with the same layer names. Without it, the adapted
            layers of `net` are described, which know their own original weights; it is needed
            where weights are trained directly.
        rank: of the subspaces of the original weight to compare with; an adapted layer takes its
            own rank instead.
        select: which layers, by name; None means all.
        progress: wraps the sequence of layers, as tqdm does.

    Raises:
        AdaptationError: no layer is selected, a layer that `original` lacks, or values that are
            not finite.
    """
    adapted = adapted_layers(net)
    if original is None and not adapted:
        raise AdaptationError("a network without adapted layers needs `original` to compare with")
    layers = linear_layers(net, select)
    if original is None:
        layers = {name: layer for name, layer in layers.items() if name in adapted}
    found = []
    for name, layer in _steps(layers, progress):
        own = _low_rank(layer)
        before = _before(name, layer, original)
        pairs = zip(_parts(name, before), _parts(name, _effective(layer) - before), strict=True)
        for part, (weight, change) in zip(part_names(name), pairs, strict=True):
            width = min(*weight.shape, rank if own is None else own.rank)
            found.append(movement(part, weight, change, rank=width))
    return tuple(found)


def original_weight(layer: Adapted) -> Tensor:
    """Return the weight (out, in) before adaptation, in float64.

    Raises:
        AdaptationError: a kind of layer that does not know it.
    """
    low = _low_rank(layer)
    if low is None:
        raise AdaptationError(f"a {type(layer).__name__} does not know its original weight")
    up, down = low.change()
    gained = (up.double() @ down.double()).flatten(0, 1)  # (out, in)
    return _effective(low) - low.scale * gained


def part_names(layer: str) -> tuple[str, ...]:
    """Return blocks.8.attn.q, .k and .v for the fused blocks.8.attn.qkv, else the name itself."""
    prefix, dot, last = layer.rpartition(".")
    return tuple(f"{prefix}{dot}{part}" for part in last) if last in FUSED_PARTS else (layer,)


def _parts(name: str, weight: Tensor) -> Tensor:
    """View (out, in) as (part, out / part, in)."""
    return in_groups(weight, len(part_names(name)))


@torch.no_grad()
def _effective(layer: nn.Module) -> Tensor:
    """Return the weight (out, in) that a plain or adapted layer computes with, in float64."""
    if isinstance(layer, Adapted):
        layer = copy.deepcopy(layer).double()  # the sum is then rounded once, and in float64
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach().double()


def _steps(
    layers: Mapping[str, nn.Module], progress: Progress[Any] | None
) -> Iterable[tuple[str, nn.Module]]:
    steps = list(layers.items())
    return steps if progress is None else progress(steps)


def _low_rank(layer: nn.Module) -> LowRankLinear | None:
    if isinstance(layer, DoRALinear):
        return layer.direction
    return layer if isinstance(layer, LowRankLinear) else None


def _before(name: str, layer: nn.Module, original: nn.Module | None) -> Tensor:
    # Their own start is the exact one: a loaded weight has been rounded into the residual.
    if isinstance(layer, Adapted) and _low_rank(layer) is not None:
        return original_weight(layer)
    if original is None:
        raise AdaptationError(f"layer {name} needs `original` to compare with")
    found = linear_layers(original)
    if name not in found:
        raise AdaptationError(f"the original network has no Linear layer {name}")
    return _effective(found[name])


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


def _overlap(original: Tensor, change: Tensor, rank: int, end: End) -> Overlap | None:
    u, _, vh = triplets(original, rank, end=end)
    energy = float(change.square().sum())
    if energy == 0:
        return None
    left, right = u.mT @ change, change @ vh.mT
    inside = u.mT @ right
    shares = (min(float(part.square().sum()) / energy, 1.0) for part in (left, right, inside))
    return Overlap(*shares)


def _check_finite(name: str, weight: Tensor) -> None:
    if not torch.isfinite(weight).all():
        raise AdaptationError(f"the weight of {name} holds values that are not finite")
