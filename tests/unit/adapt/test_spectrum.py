"""Spectra and networks without components, on matrices whose answers are known."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from adapt_nets import left_alone, low_rank_recipes, moved, tiny_vit, tokens
from torch import Tensor, nn
from torch.testing import assert_close

from sora_det.adapt import (
    AdaptationError,
    DoRA,
    LoRA,
    SoRA,
    adapted_layers,
    blocks,
    every,
    leaf,
    merge,
)
from sora_det.adapt.movement import movements
from sora_det.adapt.spectrum import effective_rank, exchanged, find_ends, reduced, spectra
from sora_det.adapt.weights import linear_layers, part_names


def diagonal(*values: float) -> Tensor:
    return torch.diag(torch.tensor(values, dtype=torch.float64))


# Spectra


@pytest.mark.parametrize("count", [1, 3, 8])
def test_effective_rank_of_equal_values_is_their_number(count: int) -> None:
    values = torch.cat([torch.full((count,), 0.7), torch.zeros(5)])
    assert effective_rank(values) == pytest.approx(count)


def test_effective_rank_by_hand() -> None:
    share = [0.75, 0.25]
    entropy = -sum(p * math.log(p) for p in share)
    assert effective_rank(torch.tensor([3.0, 1.0])) == pytest.approx(math.exp(entropy))
    assert effective_rank(torch.zeros(4)) == 0


def test_spectra_of_a_plain_network() -> None:
    net = tiny_vit()
    found = {s.name: s for s in spectra(net, select=every(blocks(5), leaf("qkv", "fc1")))}
    assert list(found) == [f"blocks.5.attn.{part}" for part in "qkv"] + ["blocks.5.mlp.fc1"]
    keys = net.blocks[5].attn.qkv.weight.detach().chunk(3)[1]
    want = torch.linalg.svdvals(keys.double())
    assert_close(torch.tensor(found["blocks.5.attn.k"].values).double(), want)
    assert found["blocks.5.mlp.fc1"].shape == (32, 16)
    assert found["blocks.5.mlp.fc1"].effective_rank <= 16


@low_rank_recipes
def test_spectra_of_an_adapted_network_are_those_of_the_merged_one(recipe: type[LoRA]) -> None:
    net = moved(recipe(rank=2)(tiny_vit()))
    for one, other in zip(spectra(net), spectra(merge(net)), strict=True):
        assert one.name == other.name
        assert_close(torch.tensor(one.values), torch.tensor(other.values), rtol=1e-4, atol=1e-5)


def test_progress_steps_are_layers() -> None:
    seen: list[int] = []

    def progress(steps: Sequence[Any]) -> Sequence[Any]:
        seen.append(len(steps))
        return steps

    net = moved(SoRA(rank=2)(tiny_vit()))
    spectra(net, select=blocks(4), progress=progress)
    find_ends(net, ["blocks.4.mlp.fc1"], 2, progress=progress)
    movements(net, progress=progress)
    assert seen == [8, 1, 16]


def test_part_names() -> None:
    assert part_names("blocks.8.attn.qkv") == tuple(f"blocks.8.attn.{part}" for part in "qkv")
    assert part_names("qkv") == ("q", "k", "v")
    assert part_names("blocks.8.attn.proj") == ("blocks.8.attn.proj",)


# Without components


def test_product_of_components_by_hand() -> None:
    net = nn.ModuleDict({"fc": nn.Linear(3, 3)})
    net["fc"].weight.data = diagonal(3, 2, 1).float()
    ends = find_ends(net, ["fc"], 2)["fc"]
    assert_close(ends.product("minor", 1)[0], diagonal(0, 0, 1))
    assert_close(ends.product("minor", 2)[0], diagonal(0, 2, 1))
    assert_close(ends.product("principal", 1)[0], diagonal(3, 0, 0))
    assert_close(ends.product("principal", 0)[0], diagonal(0, 0, 0))
    for count in (-1, 3):
        with pytest.raises(AdaptationError, match=r"count must be 0\.\.2, got"):
            ends.product("minor", count)


@pytest.mark.parametrize("end", ["minor", "principal"])
@pytest.mark.parametrize("adapted", [False, True])
def test_without_is_the_low_rank_approximation(end: Any, adapted: bool) -> None:
    net = tiny_vit()
    if adapted:
        moved(SoRA(rank=2)(net))
    names = ["blocks.3.attn.qkv", "blocks.4.mlp.fc2"]
    by_hand = merge(net) if adapted else copy.deepcopy(net)
    with torch.no_grad():
        for name in names:
            weight = by_hand.get_parameter(f"{name}.weight")
            for rows in weight.chunk(3 if name.endswith("qkv") else 1):
                u, s, vh = torch.linalg.svd(rows.double(), full_matrices=False)
                kept = slice(0, -5) if end == "minor" else slice(5, None)
                rows.copy_(u[:, kept] * s[kept] @ vh[kept])
    ends = find_ends(net, names, 6)
    before = net(tokens())
    with left_alone(net):
        with exchanged(net, reduced(net, ends, end=end, count=5)) as changed:
            assert changed is net
            assert_close(net(tokens()), by_hand(tokens()), rtol=1e-4, atol=1e-5)
            assert not torch.allclose(net(tokens()), before, atol=1e-5)
        assert torch.equal(net(tokens()), before)


def test_without_nothing_is_the_network() -> None:
    net = tiny_vit()
    ends = find_ends(net, ["blocks.3.attn.qkv"], 2)
    with exchanged(net, reduced(net, ends, end="minor", count=0)):
        assert_close(net(tokens()), tiny_vit()(tokens()))


def test_network_comes_back_after_an_error() -> None:
    net = SoRA(rank=2)(tiny_vit())
    ends = find_ends(net, list(adapted_layers(net)), 2)
    with left_alone(net):
        layers = reduced(net, ends, end="principal", count=2)
        with pytest.raises(KeyError), exchanged(net, layers):
            raise KeyError
        with (
            pytest.raises(AttributeError),
            exchanged(net, {**layers, "novel.layer": nn.Identity()}),
        ):
            pass
        with pytest.raises(AdaptationError, match=r"count must be 0\.\.2, got 3"):
            reduced(net, ends, end="minor", count=3)


def test_gradients_and_biases_survive() -> None:
    """The bias is the layer's own, so that nothing of it is copied."""
    net = tiny_vit()
    ends = find_ends(net, ["blocks.3.mlp.fc1"], 1)
    bias = net.blocks[3].mlp.fc1.bias
    with exchanged(net, reduced(net, ends, end="minor", count=1)):
        assert net.blocks[3].mlp.fc1.bias is bias


@pytest.mark.parametrize(
    ("names", "count", "match"),
    [
        (["blocks.3.novel"], 1, r"no Linear layer .* is selected"),
        (["blocks.3.mlp.fc1", "b"], 1, "no Linear layer is called b"),
        (["blocks.3.mlp.fc1"], 17, r"rank must be 1\.\.16"),
        (["blocks.3.mlp.fc1"], 0, r"rank must be 1\.\.16"),
    ],
)
def test_ends_that_cannot_be_had(names: list[str], count: int, match: str) -> None:
    with pytest.raises(AdaptationError, match=match):
        find_ends(tiny_vit(), names, count)


def test_weights_that_are_not_finite() -> None:
    net = tiny_vit()
    net.blocks[3].mlp.fc1.weight.data[0, 0] = torch.inf
    calls: list[Callable[[], object]] = [
        lambda: spectra(net),
        lambda: find_ends(net, ["blocks.3.mlp.fc1"], 1),
        lambda: movements(net, original=tiny_vit()),
    ]
    for call in calls:
        with pytest.raises(AdaptationError, match=r"blocks\.3\.mlp\.fc1 holds values that are not"):
            call()


def test_layers_inside_adapted_ones_do_not_count() -> None:
    net = DoRA(rank=2)(tiny_vit())
    assert list(linear_layers(net)) == list(linear_layers(tiny_vit()))
    with pytest.raises(AdaptationError, match="no Linear layer of this TinyViT is selected"):
        linear_layers(net, leaf("novel"))
