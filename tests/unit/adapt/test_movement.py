"""How far weights have moved, on matrices whose answers are known."""

import math
from collections.abc import Callable

import pytest
import torch
from adapt_nets import low_rank_recipes, moved, tiny_vit
from torch import Tensor
from torch.testing import assert_close

from sora_det.adapt import (
    AdaptationError,
    BitFit,
    DoRA,
    Full,
    LoRA,
    PiSSA,
    SoRA,
    adapted_layers,
    blocks,
    merge,
)
from sora_det.adapt.movement import movement, movements, original_weight
from sora_det.adapt.recipes import Recipe
from sora_det.adapt.weights import part_names


def diagonal(*values: float) -> Tensor:
    return torch.diag(torch.tensor(values, dtype=torch.float64))


def test_change_in_the_weakest_directions() -> None:
    found = movement("a", diagonal(4, 3, 2, 1), diagonal(0, 0, 0.3, 0.4), rank=2)
    assert found.norm == pytest.approx(math.sqrt(30))
    assert found.change == pytest.approx(0.5)
    assert found.relative == pytest.approx(0.5 / math.sqrt(30))
    assert (found.minor.left, found.minor.right, found.minor.both) == pytest.approx((1, 1, 1))
    assert (found.principal.left, found.principal.both) == pytest.approx((0, 0))
    assert (found.chance.left, found.chance.both) == (0.5, 0.25)


def test_change_across_directions() -> None:
    """From a weak input direction to a strong output direction."""
    change = torch.zeros(4, 4, dtype=torch.float64)
    change[0, 3] = 1
    found = movement("a", diagonal(4, 3, 2, 1), change, rank=1)
    assert (found.minor.left, found.minor.right, found.minor.both) == pytest.approx((0, 1, 0))
    assert (found.principal.left, found.principal.right) == pytest.approx((1, 0))
    assert found.effective_rank == pytest.approx(1)


def test_no_change() -> None:
    found = movement("a", diagonal(2, 1), torch.zeros(2, 2), rank=1)
    assert (found.change, found.relative, found.effective_rank) == (0, 0, 0)
    assert found.minor is None
    assert found.principal is None


def test_change_of_nothing() -> None:
    found = movement("a", torch.zeros(2, 2), torch.eye(2), rank=1)
    assert found.relative is None
    assert found.effective_rank == pytest.approx(2)


def test_chance_is_what_random_changes_have_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 8, generator=generator)
    shares = [
        movement("a", weight, torch.randn(12, 8, generator=generator), rank=3) for _ in range(300)
    ]
    for end in ("minor", "principal"):
        for side in ("left", "right", "both"):
            mean = sum(getattr(getattr(m, end), side) for m in shares) / len(shares)
            assert mean == pytest.approx(getattr(shares[0].chance, side), abs=0.02)


@low_rank_recipes
def test_movement_of_every_low_rank_method(recipe: type[LoRA]) -> None:
    net = moved(recipe(rank=2)(tiny_vit()))
    plain, start = merge(net), tiny_vit()
    alone, beside = movements(net), movements(net, original=start)
    layers = list(adapted_layers(net))
    assert [m.name for m in alone] == [part for name in layers for part in part_names(name)]
    assert set(alone) <= set(beside)  # an adapted layer knows its own start
    for found in alone:
        assert found.rank == 2
    for name in layers:
        if name.endswith("qkv"):
            continue
        change = plain.get_parameter(f"{name}.weight") - start.get_parameter(f"{name}.weight")
        (found,) = [m for m in alone if m.name == name]
        assert found.change == pytest.approx(float(change.detach().norm()), rel=1e-4)
        if recipe is not DoRA:  # a change of row lengths is of full rank
            assert found.effective_rank < 4.01


def test_sora_begins_in_the_weakest_and_pissa_in_the_strongest_directions() -> None:
    for recipe, near, far in ((SoRA, "minor", "principal"), (PiSSA, "principal", "minor")):
        net = recipe(rank=2)(tiny_vit())
        with torch.no_grad():
            for layer in adapted_layers(net).values():
                layer.up.mul_(1.1)
        for found in movements(net):
            assert getattr(found, near).both == pytest.approx(1, abs=1e-3)
            assert getattr(found, far).both == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("make", [Full, BitFit])
def test_movement_of_methods_that_train_the_network_itself(make: Callable[[], Recipe]) -> None:
    net = make()(tiny_vit())
    with pytest.raises(AdaptationError, match="needs `original` to compare with"):
        movements(net)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.5)
    for found in movements(net, original=tiny_vit(), select=blocks(0)):
        assert found.relative == pytest.approx(0.5 if make is Full else 0, abs=1e-6)


def test_original_of_another_shape_of_network() -> None:
    with pytest.raises(
        AdaptationError, match=r"the original network has no Linear layer blocks\.5"
    ):
        movements(tiny_vit(), original=tiny_vit(depth=5))


@low_rank_recipes
def test_original_weight_is_known_without_the_original(recipe: type[LoRA]) -> None:
    net = moved(recipe(rank=2)(tiny_vit()))
    for name, layer in adapted_layers(net).items():
        want = tiny_vit().get_parameter(f"{name}.weight").double()
        assert_close(original_weight(layer), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "make", [lambda: SoRA(rank=2), lambda: PiSSA(rank=2), lambda: DoRA(rank=2)]
)
def test_an_untrained_network_has_not_moved(make: Callable[[], Recipe]) -> None:
    for found in movements(make()(tiny_vit()), original=tiny_vit()):
        assert found.change < 1e-6
        assert (found.effective_rank, found.minor, found.principal) == (0, None, None)
