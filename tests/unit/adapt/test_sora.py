import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from sora_det.adapt import low_rank, split_minor, split_principal, start_at_zero


def test_moves_the_weakest_direction() -> None:
    residual, up, down = split_minor(torch.diag(torch.tensor([3.0, 2.0, 1.0])), 1)
    assert_close(up @ down, torch.diag(torch.tensor([0.0, 0.0, 1.0])))
    assert_close(residual, torch.diag(torch.tensor([3.0, 2.0, 0.0])))


def test_moves_the_strongest_direction() -> None:
    residual, up, down = split_principal(torch.diag(torch.tensor([3.0, 2.0, 1.0])), 1)
    assert_close(up @ down, torch.diag(torch.tensor([3.0, 0.0, 0.0])))
    assert_close(residual, torch.diag(torch.tensor([0.0, 2.0, 1.0])))


def test_agrees_with_numpy_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 32, generator=generator, dtype=torch.float64)
    u, s, vh = np.linalg.svd(weight.numpy(), full_matrices=False)
    want = (u[:, -5:] * s[-5:]) @ vh[-5:]
    _, up, down = split_minor(weight, 5, scale=2.0)
    np.testing.assert_allclose(2.0 * (up @ down).numpy(), want, atol=1e-12)


def test_factors_share_the_singular_values_evenly() -> None:
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    _, up, down = split_minor(weight, 2, scale=0.5)
    assert_close(up.norm(dim=0), down.norm(dim=1))
    assert_close(0.5 * up.norm(dim=0).square(), torch.linalg.svdvals(weight)[-2:])


def test_lora_starts_at_zero_within_its_bound() -> None:
    weight = torch.randn(6, 16)
    residual, up, down = start_at_zero(weight, 4)
    assert residual is not weight
    assert_close(residual, weight)
    assert up.abs().max() == 0
    assert 0 < down.abs().max() <= 1 / math.sqrt(16)


@pytest.mark.parametrize("rank", [0, 5, -1])
def test_rank_out_of_range(rank: int) -> None:
    with pytest.raises(ValueError, match=r"rank must be 1\.\.4 for shape \(6, 4\)"):
        split_minor(torch.randn(6, 4), rank)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weight_that_is_not_finite(bad: float) -> None:
    with pytest.raises(ValueError, match=r"shape \(6, 4\) holds values that are not finite"):
        split_minor(torch.full((6, 4), bad), 1)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_scale_out_of_range(scale: float) -> None:
    with pytest.raises(ValueError, match="scale must be positive"):
        split_minor(torch.randn(6, 4), 1, scale=scale)


def test_rank_below_one_is_caught_before_dividing() -> None:
    with pytest.raises(ValueError, match=r"rank must be 1\.\.4"):
        low_rank(torch.nn.Linear(4, 4), rank=0, alpha=1, start=split_minor)


def test_groups_must_divide_the_rows() -> None:
    with pytest.raises(ValueError, match="3 groups do not divide 4"):
        low_rank(torch.nn.Linear(4, 4), rank=1, start=split_minor, groups=3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_float32_factors(dtype: torch.dtype) -> None:
    linear = torch.nn.Linear(16, 8).to(dtype)
    layer = low_rank(linear, rank=4, start=split_minor)
    assert layer.residual.dtype == dtype
    assert layer.up.dtype == layer.down.dtype == torch.float32
    x = torch.randn(3, 16).to(dtype)
    assert_close(layer(x), linear(x), rtol=0.02, atol=0.02)
    assert layer(x).dtype == dtype


def test_fused_layer_equals_three_layers() -> None:
    generator = torch.Generator().manual_seed(0)
    fused = torch.nn.Linear(8, 24)
    layer = low_rank(fused, rank=2, alpha=3.0, start=split_minor, groups=3)
    parts = [torch.nn.Linear(8, 8) for _ in range(3)]
    for part, weight, bias in zip(parts, fused.weight.chunk(3), fused.bias.chunk(3), strict=True):
        part.load_state_dict({"weight": weight, "bias": bias})
    alone = [low_rank(part, rank=2, alpha=3.0, start=split_minor) for part in parts]
    with torch.no_grad():
        layer.up += 0.1
        for one in alone:
            one.up += 0.1
    x = torch.randn(2, 5, 8, generator=generator)
    assert_close(layer(x), torch.cat([one(x) for one in alone], dim=-1))
    assert_close(layer.weight, torch.cat([one.weight for one in alone]))


def test_effective_weight_carries_gradients() -> None:
    layer = low_rank(torch.nn.Linear(8, 6), rank=2, start=split_minor)
    x = torch.randn(3, 8)
    torch.nn.functional.linear(x, layer.weight, layer.bias).square().sum().backward()
    through_weight = layer.up.grad.clone()
    layer.zero_grad()
    layer(x).square().sum().backward()
    assert through_weight.abs().max() > 0
    assert_close(layer.up.grad, through_weight)


@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 3, 4, 8), (0, 8), (2, 0, 8)])
def test_any_leading_dimensions(shape: tuple[int, ...]) -> None:
    linear = torch.nn.Linear(8, 6)
    layer = low_rank(linear, rank=2, start=split_minor)
    x = torch.randn(shape)
    assert_close(layer(x), linear(x))
