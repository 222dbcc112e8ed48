"""What must hold for every weight, rank, type and scale."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from sora_det.adapt import (
    Added,
    DoRALinear,
    LowRankLinear,
    Split,
    low_rank,
    merge,
    split_minor,
    split_principal,
    start_at_zero,
)
from sora_det.adapt.low_rank import Adapted, in_groups
from sora_det.adapt.sora import add_minor_of_random

Start = Callable[..., Split]
EPS = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}
MOVED = {
    "minor": split_minor,
    "minor, exact": partial(split_minor, solver="exact"),
    "principal": split_principal,
    "principal, exact": partial(split_principal, solver="exact"),
    "principal, randomized": partial(split_principal, solver="randomized"),
}
AS_PRETRAINED = {**MOVED, "zero": start_at_zero}  # the network starts as it was
STARTS = {**AS_PRETRAINED, "official": add_minor_of_random}
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
many = settings(max_examples=60, deadline=None)
starts = pytest.mark.parametrize("start", AS_PRETRAINED.values(), ids=AS_PRETRAINED)
moving = pytest.mark.parametrize("start", MOVED.values(), ids=MOVED)
all_starts = pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)


@st.composite
def ranks(draw: st.DrawFn, limit: int) -> int:
    return draw(st.one_of(st.just(1), st.just(limit), st.integers(1, limit)))


@st.composite
def weights(draw: st.DrawFn, batch: tuple[int, ...] = ()) -> tuple[Tensor, int]:
    out, inner = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    weight = torch.randn(*batch, out, inner, generator=generator, dtype=torch.float64)
    kind = draw(st.sampled_from(["full", "deficient", "zero"]))
    if kind == "deficient":
        weight = weight[..., :1] @ weight[..., :1, :]
    weight *= kind != "zero"
    return weight.to(draw(st.sampled_from(DTYPES))), draw(ranks(min(out, inner)))


@st.composite
def linears(draw: st.DrawFn, dtypes: list[torch.dtype] = DTYPES) -> tuple[nn.Linear, int, int]:
    """A layer, a rank and a number of groups that fit it."""
    groups = draw(st.integers(1, 3))
    weight, rank = draw(weights((groups,)))
    dtype = draw(st.sampled_from(dtypes))
    whole = weight.flatten(0, 1).to(dtype)
    linear = nn.Linear(whole.shape[1], whole.shape[0], bias=draw(st.booleans()), dtype=dtype)
    with torch.no_grad():
        linear.weight.copy_(whole)
    return linear, rank, groups


def change_a_little(layer: Adapted) -> None:
    """As training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, factor in layer.factors():
            factor += 0.1 * torch.randn(factor.shape, generator=generator)


def tolerance(weight: Tensor) -> dict[str, float]:
    size = max(1.0, float(weight.detach().double().abs().max()))
    return {"rtol": 0, "atol": EPS[weight.dtype] * size}


@starts
@given(case=weights(), scale=st.floats(0.1, 8.0))
@many
def test_parts_add_up_to_the_weight(start: Start, case: tuple[Tensor, int], scale: float) -> None:
    weight, rank = case
    before = weight.clone()
    residual, up, down = start(weight, rank, scale=scale)
    total = residual.double() + scale * up.double() @ down.double()
    assert_close(total, weight.double(), **tolerance(weight))
    assert torch.equal(weight, before)


@all_starts
@given(case=weights((2, 3)))
@settings(max_examples=30, deadline=None)
def test_types_and_shapes(start: Start, case: tuple[Tensor, int]) -> None:
    weight, rank = case
    residual, up, down = start(weight, rank)
    *batch, out, inner = weight.shape
    assert (residual.shape, residual.dtype) == (weight.shape, weight.dtype)
    assert up.shape == (*batch, out, rank)
    assert down.shape == (*batch, rank, inner)
    assert up.dtype == down.dtype == torch.promote_types(weight.dtype, torch.float32)
    assert all(part.is_contiguous() and part.isfinite().all() for part in (residual, up, down))


@moving
@given(case=weights((2, 3)))
@settings(max_examples=30, deadline=None)
def test_a_batch_is_split_one_by_one(start: Start, case: tuple[Tensor, int]) -> None:
    weight, rank = case
    _, up, down = start(weight, rank)
    _, one_up, one_down = start(weight[1, 2], rank)
    # Only with the product: the singular vectors of equal values are anybody's choice.
    limit = min(weight.shape[-2:])
    if rank == limit:
        assert_close((up @ down)[1, 2], one_up @ one_down, rtol=1e-4, atol=1e-5)
    assert_close(up.norm(dim=-2), down.norm(dim=-1), rtol=1e-4, atol=1e-5)
    assert_close(up[1, 2].norm(dim=-2), one_up.norm(dim=-2), rtol=1e-4, atol=1e-4)


@given(case=weights(), scale=st.floats(0.1, 8.0))
@many
def test_official_start_keeps_the_whole_weight(case: tuple[Tensor, int], scale: float) -> None:
    weight, rank = case
    split = add_minor_of_random(weight, rank, scale=scale)
    assert isinstance(split, Added)
    assert torch.equal(split.residual, weight)
    assert split.residual.data_ptr() != weight.data_ptr()
    # Minor components cannot be larger than the random matrix: entries within 1/sqrt(in).
    product = scale * split.up.double() @ split.down.double()
    assert torch.linalg.matrix_norm(product) <= len(weight) ** 0.5 + 1e-6


@moving
@given(case=weights())
@many
def test_residual_is_orthogonal_to_the_trained_part(start: Start, case: tuple[Tensor, int]) -> None:
    weight, rank = case
    residual, up, down = (part.double() for part in start(weight.double(), rank))
    size = max(1.0, float(weight.double().norm())) ** 2
    inner = weight.shape[1]
    zero = torch.zeros(inner, inner, dtype=torch.float64)
    assert_close(residual.T @ up @ down, zero, atol=1e-10 * size, rtol=0)


@starts
@given(case=linears(), alpha=st.one_of(st.none(), st.floats(0.5, 8.0)))
@many
def test_layer_starts_as_the_plain_one(
    start: Start, case: tuple[nn.Linear, int, int], alpha: float | None
) -> None:
    linear, rank, groups = case
    layer = low_rank(linear, rank=rank, start=start, alpha=alpha, groups=groups)
    assert_close(layer.weight, linear.weight, **tolerance(linear.weight))
    assert (layer.bias is None) == (linear.bias is None)
    x = torch.ones(2, linear.in_features, dtype=linear.weight.dtype)
    size = max(1.0, float(linear.weight.detach().double().abs().sum(1).max()))
    assert_close(layer(x), linear(x), rtol=0, atol=4 * EPS[x.dtype] * size)
    assert layer(x).dtype == x.dtype


@all_starts
@given(case=linears([torch.float64, torch.float32]), alpha=st.floats(0.5, 8.0))
@many
def test_change_is_what_the_weight_has_gained(
    start: Start, case: tuple[nn.Linear, int, int], alpha: float
) -> None:
    linear, rank, groups = case
    layer = low_rank(linear, rank=rank, start=start, alpha=alpha, groups=groups)
    added = isinstance(start(torch.ones(1, 1), 1), Added)
    change_a_little(layer)
    up, down = layer.change()
    width = rank if added else 2 * rank
    assert up.shape == (groups, linear.out_features // groups, width)
    assert down.shape == (groups, width, linear.in_features)
    gained = (layer.weight - linear.weight).detach()
    size = max(1.0, float(layer.weight.detach().abs().max()))
    delta = layer.scale * (up @ down).flatten(0, 1)
    assert_close(delta, gained, rtol=0, atol=20 * EPS[gained.dtype] * size)


@moving
@given(case=linears([torch.float64, torch.float32]))
@settings(max_examples=20, deadline=None)
def test_nothing_has_changed_at_the_start(start: Start, case: tuple[nn.Linear, int, int]) -> None:
    linear, rank, groups = case
    up, down = low_rank(linear, rank=rank, start=start, groups=groups).change()
    zero = torch.zeros(linear.weight.shape, dtype=linear.weight.dtype)
    assert_close((up @ down).flatten(0, 1), zero, **tolerance(linear.weight))


def adapted(linear: nn.Linear, rank: int, groups: int, *, dora: bool) -> Adapted:
    split = split_minor(in_groups(linear.weight.detach(), groups), rank)
    if dora:
        return DoRALinear(LowRankLinear(split, None), linear.bias)
    return LowRankLinear(split, linear.bias)


@pytest.mark.parametrize("dora", [False, True], ids=["low rank", "DoRA"])
@given(case=linears())
@many
def test_merging_makes_a_plain_copy(dora: bool, case: tuple[nn.Linear, int, int]) -> None:
    linear = case[0]
    layer = adapted(*case, dora=dora)
    change_a_little(layer)
    net = nn.Sequential(layer)
    before = copy.deepcopy(net.state_dict())
    plain = merge(net)

    assert type(plain[0]) is nn.Linear
    assert list(plain[0].state_dict()) == list(linear.state_dict())
    assert plain[0].weight.dtype == linear.weight.dtype
    assert torch.equal(plain[0].weight, layer.weight)
    x = torch.ones(2, linear.in_features, dtype=linear.weight.dtype)
    size = max(1.0, float(layer.weight.detach().double().abs().sum(1).max()))
    assert_close(plain(x), net(x), rtol=0, atol=8 * EPS[x.dtype] * size)

    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.fill_(7)
    assert net[0] is layer
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@given(case=linears([torch.float64, torch.float32]))
@many
def test_dora_starts_as_the_plain_layer(case: tuple[nn.Linear, int, int]) -> None:
    linear = case[0]
    layer = adapted(*case, dora=True)
    assert_close(layer.weight, linear.weight, **tolerance(linear.weight))


@pytest.mark.parametrize("end", ["minor", "principal"])
@given(seed=st.integers(0, 2**31), rank=st.integers(1, 8), dtype=st.sampled_from([*DTYPES]))
@settings(max_examples=40, deadline=None)
def test_trained_directions(end: str, seed: int, rank: int, dtype: torch.dtype) -> None:
    """Sine of the largest principal angle to what a float64 SVD of the same weight finds."""
    generator = torch.Generator().manual_seed(seed)
    u, _ = torch.linalg.qr(torch.randn(32, 24, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(24, 24, generator=generator, dtype=torch.float64))
    weight = (u * torch.logspace(0, -3, 24, dtype=torch.float64) @ v.T).to(dtype)
    start = split_minor if end == "minor" else split_principal
    _, up, down = start(weight, rank)
    u, _, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    part = slice(-rank, None) if end == "minor" else slice(rank)
    # Factors of float32 are themselves rounded, at 6e-8 of each entry.
    for found, wanted in ((up, u[:, part]), (down.T, vh[part].T)):
        basis, _ = torch.linalg.qr(found.double())
        assert torch.linalg.matrix_norm(basis - wanted @ (wanted.T @ basis), 2) < 1e-6
