"""What must hold for every weight, rank, type and scale."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from sora_det.adapt import low_rank, merge, split_minor, split_principal

SPLITS = [split_minor, split_principal]
EPS = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}


@st.composite
def weights(draw: st.DrawFn) -> tuple[Tensor, int]:
    out, inner = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rank = draw(st.integers(1, min(out, inner)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    weight = torch.randn(out, inner, generator=generator, dtype=torch.float64)
    kind = draw(st.sampled_from(["full", "deficient", "zero"]))
    if kind == "deficient":
        weight = weight[:, :1] @ weight[:1]
    weight *= kind != "zero"
    return weight.to(draw(st.sampled_from(list(EPS)))), rank


@pytest.mark.parametrize("split", SPLITS)
@given(case=weights(), scale=st.floats(0.1, 8.0))
@settings(max_examples=60, deadline=None)
def test_parts_add_up_to_the_weight(split, case: tuple[Tensor, int], scale: float) -> None:
    weight, rank = case
    residual, up, down = split(weight, rank, scale=scale)
    total = residual.double() + scale * up.double() @ down.double()
    size = max(1.0, float(weight.double().abs().max()))
    assert_close(total, weight.double(), rtol=0, atol=EPS[weight.dtype] * size)


@pytest.mark.parametrize("split", SPLITS)
@given(case=weights())
@settings(max_examples=60, deadline=None)
def test_residual_is_orthogonal_to_the_trained_part(split, case: tuple[Tensor, int]) -> None:
    weight, rank = case
    residual, up, down = (part.double() for part in split(weight.double(), rank))
    scale = max(1.0, float(weight.double().norm())) ** 2
    zero = torch.zeros(1, dtype=torch.float64)
    assert_close(
        residual.T @ up @ down, zero.expand(len(down.T), len(down.T)), atol=1e-10 * scale, rtol=0
    )


@given(case=weights(), bias=st.booleans())
@settings(max_examples=60, deadline=None)
def test_merged_equals_unmerged(case: tuple[Tensor, int], bias: bool) -> None:
    weight, rank = case[0].double(), case[1]
    linear = torch.nn.Linear(*weight.shape[::-1], bias=bias, dtype=torch.float64)
    linear.weight.data.copy_(weight)
    layer = low_rank(linear, rank=rank, start=split_minor)
    layer.up.data += 0.1
    x = torch.ones(2, weight.shape[1], dtype=torch.float64)
    assert_close(merge(layer)(x), layer(x))


@given(seed=st.integers(0, 2**31), rank=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_trained_directions_are_the_minor_ones(seed: int, rank: int) -> None:
    """The sine of the largest principal angle to the subspace that torch.linalg.svd finds."""
    generator = torch.Generator().manual_seed(seed)
    u, _ = torch.linalg.qr(torch.randn(32, 24, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(24, 24, generator=generator, dtype=torch.float64))
    weight = u * torch.logspace(0, -3, 24, dtype=torch.float64) @ v.T
    _, _, down = split_minor(weight.float(), rank)
    basis, _ = torch.linalg.qr(down.double().T)
    wanted = torch.linalg.svd(weight).Vh[-rank:]
    outside = basis - wanted.T @ (wanted @ basis)
    # float32 weights are rounded at 6e-8 of their largest value, the smallest gap here is 3e-4
    assert torch.linalg.matrix_norm(outside, 2) < 1e-3
