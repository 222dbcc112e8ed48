"""The layer against numbers made by the reference implementation (its tolerances: 1e-5)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close

from sora_det.adapt import LowRankLinear, low_rank, merge, split_minor, split_principal

DATA = Path(__file__).parents[1] / "data" / "parity" / "sora_linear.safetensors"
SHAPES = {"tall": (4, 4.0), "wide": (8, 8.0), "square": (4, 8.0)}  # rank, alpha
STARTS = {"minor": split_minor, "first_eigen": split_principal}
TOLERANCE = {"rtol": 0.0, "atol": 1e-5}


@pytest.fixture(scope="module")
def numbers() -> dict[str, Tensor]:
    return load_file(DATA)


@pytest.fixture(params=[(shape, start) for shape in SHAPES for start in STARTS], ids="-".join)
def case(request: pytest.FixtureRequest, numbers: dict[str, Tensor]) -> dict[str, Tensor]:
    shape, start = request.param
    rank, alpha = SHAPES[shape]
    shared = {
        k.split(".", 1)[1]: v
        for k, v in numbers.items()
        if k.count(".") == 1 and k.startswith(shape)
    }
    own = {k.removeprefix(f"{shape}.{start}."): v for k, v in numbers.items()}
    linear = nn.Linear(*shared["W"].shape[::-1])
    linear.load_state_dict({"weight": shared["W"], "bias": shared["b"]})
    layer = low_rank(linear, rank=rank, alpha=alpha, start=STARTS[start])
    return {**own, **shared, "layer": layer, "scale": torch.tensor(alpha / rank)}


def test_start_is_the_plain_layer(case: dict[str, Tensor]) -> None:
    layer = case["layer"]
    assert_close(layer.residual, case["residual"], **TOLERANCE)
    assert_close(layer.up[0] @ layer.down[0], case["BA"], **TOLERANCE)
    assert_close(layer(case["x"]), case["y_init"], **TOLERANCE)


def test_factors_up_to_sign(case: dict[str, Tensor]) -> None:
    layer = case["layer"]
    sign = (layer.down[0] * case["A"]).sum(dim=1).sign()
    assert_close(sign[:, None] * layer.down[0], case["A"], **TOLERANCE)
    assert_close(layer.up[0] * sign, case["B"], **TOLERANCE)


def with_factors(layer: LowRankLinear, up: Tensor, down: Tensor) -> LowRankLinear:
    with torch.no_grad():
        layer.up.copy_(up[None])
        layer.down.copy_(down[None])
    return layer


def test_gradients(case: dict[str, Tensor]) -> None:
    layer = with_factors(case["layer"], case["B"], case["A"])
    x = case["x"].clone().requires_grad_()
    (layer(x) * case["G"]).sum().backward()
    assert_close(layer.down.grad[0], case["dA"], **TOLERANCE)
    assert_close(layer.up.grad[0], case["dB"], **TOLERANCE)
    assert_close(layer.bias.grad, case["db"], **TOLERANCE)
    assert_close(x.grad, case["dx"], **TOLERANCE)
    assert layer.residual.grad is None


def test_trained_output_and_merged_weight(case: dict[str, Tensor]) -> None:
    up, down = case["B"] + case["eps_B"], case["A"] + case["eps_A"]
    layer = with_factors(case["layer"], up, down)
    assert_close(layer(case["x"]), case["y_pert"], **TOLERANCE)
    assert_close(merge(layer).weight, case["W_merged"], **TOLERANCE)
