"""Whatever cannot be done is refused in words, and the network is left as it was."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from adapt_nets import LOW_RANK, Block, left_alone, low_rank_recipes, tiny_vit
from torch import nn

from sora_det.adapt import (
    AdaptationError,
    BitFit,
    Frozen,
    Full,
    LoRA,
    MiLoRA,
    PiSSA,
    SoRA,
    blocks,
    every,
    inject,
    leaf,
    low_rank,
    split_minor,
    start_at_zero,
)
from sora_det.adapt.recipes import Recipe
from sora_det.adapt.record import ATTRIBUTE, Adaptation
from sora_det.adapt.select import Select

EVERY: dict[str, Callable[[], Recipe]] = {
    **{cls.__name__: lambda cls=cls: cls(rank=2) for cls in LOW_RANK},
    "official": lambda: SoRA(rank=2, start="official"),
    "BitFit": BitFit,
    "Full": Full,
    "Frozen": Frozen,
}
every_recipe = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)


def wrap(_name: str, linear: nn.Linear) -> nn.Module:
    return low_rank(linear, rank=2, start=split_minor)


def refused(net: nn.Module, recipe: Recipe, match: str) -> None:
    with left_alone(net), pytest.raises(AdaptationError, match=match):
        recipe(net)


@low_rank_recipes
def test_rank_above_the_smaller_side(recipe: type[LoRA]) -> None:
    match = r"layer blocks\.2\.attn\.qkv: rank must be 1\.\.16 for shape \(16, 16\), got 17"
    refused(tiny_vit(), recipe(rank=17), match)


def test_rank_that_only_a_ramp_makes_too_large() -> None:
    match = r"layer blocks\.4\.attn\.qkv: rank must be 1\.\.16 .*, got 24"
    refused(tiny_vit(), LoRA(rank=12, ramp=[[4, 2]]), match)


@pytest.mark.parametrize("rank", [0, -1, 2.5, "16", True])
def test_rank_that_is_no_count(rank: Any) -> None:
    with pytest.raises(AdaptationError, match=r"rank must be a whole number from 1 on, got"):
        SoRA(rank=rank)


@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf"), "8"])
def test_alpha_that_is_not_positive(alpha: Any) -> None:
    with pytest.raises(AdaptationError, match="alpha must be a positive number or None, got"):
        SoRA(alpha=alpha)


@pytest.mark.parametrize("alpha", [0, -1.0, float("nan")])
def test_alpha_of_one_layer(alpha: float) -> None:
    linear = nn.Linear(4, 4)
    with left_alone(linear), pytest.raises(AdaptationError, match="scale must be positive"):
        low_rank(linear, rank=2, alpha=alpha, start=split_minor)


@pytest.mark.parametrize(
    "ramp",
    [
        [[4, 2], [3, 4]],
        [[3, 2], [3, 4]],
        [[3, 0]],
        [[3, -2]],
        [[3, 0.5]],
        [[-1, 2]],
        [[3]],
        [[3, 2, 1]],
        [3, 2],
        [["a", 2]],
        "32",
        7,
    ],
    ids=str,
)
def test_ramp_that_makes_no_sense(ramp: Any) -> None:
    match = r"ramp must be pairs \(block, factor\), blocks ascending from 0 .* from 1 on, got"
    with pytest.raises(AdaptationError, match=match):
        SoRA(ramp=ramp)


def test_ramp_of_a_deeper_network() -> None:
    """It would silently do nothing."""
    match = r"the ramp has a step at block 12, but the 6 blocks are 0\.\.5"
    refused(tiny_vit(), SoRA(rank=1, ramp=[[3, 2], [12, 4]]), match)


@low_rank_recipes
def test_unknown_target_names_the_nearest(recipe: type[LoRA]) -> None:
    match = r"no adapted block has .* called 'qvk', only \['fc1', .*'qkv'\]; did you mean 'qkv'\?"
    refused(tiny_vit(), recipe(rank=2, targets=["proj", "qvk"]), match)


@low_rank_recipes
def test_target_that_no_adapted_block_has(recipe: type[LoRA]) -> None:
    """It exists, so a look at all layers would not tell."""
    match = r"no adapted block has a Linear layer called 'head', only \['fc1', 'fc2'"
    refused(tiny_vit(), recipe(rank=2, targets=["proj", "head"]), match)


def test_targets_as_one_word() -> None:
    """Python would take it for a list of letters, and q, k and v do exist in some networks."""
    with pytest.raises(AdaptationError, match=r"targets must be a list of names, got 'qkv'"):
        SoRA(targets="qkv")


def test_no_target_at_all() -> None:
    with pytest.raises(AdaptationError, match="targets must name a layer; None means all"):
        SoRA(targets=[])


@every_recipe
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(make: Callable[[], Recipe], bad: float) -> None:
    net = tiny_vit()
    net.blocks[3].mlp.fc1.weight.data[3, 5] = bad
    match = r"blocks\.3\.mlp\.fc1\.weight: .* not finite: .* load"
    refused(net, make(), match)


@every_recipe
def test_adapting_twice(make: Callable[[], Recipe]) -> None:
    net = make()(tiny_vit())
    for again in (make(), SoRA(rank=2), BitFit(), Full(), Frozen()):
        refused(net, again, r"TinyViT is adapted already by .*: build it anew, or merge\(\) it")


@every_recipe
def test_adapting_around_an_injected_layer(make: Callable[[], Recipe]) -> None:
    net = tiny_vit()
    inject(net.blocks[4], select=leaf("fc1"), wrap=wrap)  # `net` has no record of it
    refused(net, make(), r"adapted already \(1 layers\)")


def test_injecting_twice() -> None:
    net = tiny_vit()
    inject(net, select=every(blocks(3), leaf("fc1")), wrap=wrap)
    with (
        left_alone(net),
        pytest.raises(AdaptationError, match=r"3 selected .*3\.mlp\.fc1"),
    ):
        inject(net, select=leaf("fc1"), wrap=wrap)


KINDS = r"embed, blocks\.0\.attn\.qkv, blocks\.0\.attn\.proj, blocks\.0\.mlp\.fc1, .*fc2, head"
NOWHERE = {
    "nearest": (leaf("qvk"), "; did you mean 'qkv'\\?"),
    "within blocks": (every(blocks(2), leaf("fc3", "fc_1")), "; did you mean 'fc2', 'fc1'\\?"),
    "nothing near": (leaf("xyz"), ""),
    "somebody's predicate": (lambda name: "qvk" in name, ""),
}


@pytest.mark.parametrize(("select", "hint"), NOWHERE.values(), ids=NOWHERE)
def test_injecting_nowhere(select: Select, hint: str) -> None:
    net = tiny_vit()
    match = f"no Linear layer is selected; this TinyViT has: {KINDS}{hint}$"
    with left_alone(net), pytest.raises(AdaptationError, match=match):
        inject(net, select=select, wrap=wrap)


def test_a_wrap_that_fails_in_the_middle() -> None:
    net = tiny_vit()

    def fails(name: str, linear: nn.Linear) -> nn.Module:
        return low_rank(linear, rank=17 if name == "blocks.5.mlp.fc2" else 2, start=start_at_zero)

    match = r"layer blocks\.5\.mlp\.fc2: rank must be 1\.\.16"
    with left_alone(net), pytest.raises(AdaptationError, match=match):
        inject(net, select=blocks(0), wrap=fails)


@low_rank_recipes
def test_one_layer_in_two_places(recipe: type[LoRA]) -> None:
    net = tiny_vit()
    net.blocks[4].attn.proj = net.blocks[3].attn.proj
    match = r"several names.* by hand: blocks\.3\.attn\.proj, blocks\.4\.attn\.proj"
    refused(net, recipe(rank=2), match)


@pytest.mark.parametrize("other", ["Linear", "Embedding"])
@low_rank_recipes
def test_tied_weight(recipe: type[LoRA], other: str) -> None:
    net = tiny_vit()
    if other == "Linear":
        net.blocks[0].attn.proj.weight = net.blocks[3].attn.proj.weight
    else:
        net.words = nn.Embedding(16, 16)
        net.words.weight = net.blocks[3].attn.proj.weight
    refused(net, recipe(rank=2), r"weight of blocks\.3\.attn\.proj is tied to .*, adapt it by hand")


@low_rank_recipes
def test_fused_layer_that_is_not_three(recipe: type[LoRA]) -> None:
    net = tiny_vit()
    net.blocks[3].attn.qkv = nn.Linear(16, 40)
    refused(net, recipe(rank=2), r"layer blocks\.3\.attn\.qkv: 3 groups do not divide 40 output")


@pytest.mark.parametrize("groups", [0, -1, 3])
def test_groups_that_do_not_divide(groups: int) -> None:
    linear = nn.Linear(4, 4)
    match = f"{groups} groups do not divide 4 output features"
    with left_alone(linear), pytest.raises(AdaptationError, match=match):
        low_rank(linear, rank=1, start=split_minor, groups=groups)


@pytest.mark.parametrize("make", [LoRA, SoRA, BitFit])
def test_start_block_out_of_range(make: Any) -> None:
    for start_block in (-1, 6):
        match = r"start_block must be 0\.\.5 for 6 blocks, got"
        refused(tiny_vit(), make(start_block=start_block), match)


@pytest.mark.parametrize("make", [LoRA, SoRA, BitFit])
def test_network_without_blocks(make: Any) -> None:
    net = nn.Sequential(nn.Linear(4, 4))
    refused(net, make(), r"Sequential has no blocks\.0, blocks\.1, \.\.\.: use inject\(\)")


def test_bitfit_without_biases() -> None:
    net = nn.Module()
    net.blocks = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(3))
    refused(net, BitFit(), r"there is no bias in the blocks from 1 on")


def test_solver_and_start_are_checked_before_anything_is_done() -> None:
    with pytest.raises(AdaptationError, match="start must be 'pretrained' or 'official', got 'x'"):
        SoRA(start="x")  # type: ignore[arg-type]
    with pytest.raises(AdaptationError, match="PiSSA has no official start"):
        PiSSA(start="official")
    for seed in (-1, 0.5, None, True):
        with pytest.raises(AdaptationError, match="seed must be a whole number from 0 on, got"):
            SoRA(seed=seed)  # type: ignore[arg-type]
    for recipe in (SoRA, MiLoRA):
        with pytest.raises(AdaptationError, match=r"randomized SVD .* never the minor ones"):
            recipe(solver="randomized")
    for recipe in (SoRA, MiLoRA, PiSSA):
        with pytest.raises(AdaptationError, match=r"solver must be one of .* got 'fast'"):
            recipe(solver="fast")  # type: ignore[arg-type]


def test_error_is_a_value_error() -> None:
    assert issubclass(AdaptationError, ValueError)


def test_guard_notices_a_change() -> None:
    """The helper that most tests here rely on."""
    net = tiny_vit()
    changes: list[Callable[[], Any]] = [
        lambda: net.head.weight.data.add_(1),
        lambda: net.head.weight.requires_grad_(False),
        lambda: setattr(net, "head", copy.deepcopy(net.head)),
        lambda: setattr(net, ATTRIBUTE, Adaptation("SoRA", {})),
        lambda: net.train(),
    ]
    for change in changes:
        with pytest.raises(AssertionError), left_alone(net):
            change()
    with left_alone(net):
        net(torch.ones(1, 2, 4))
    assert isinstance(net.blocks[0], Block)


@every_recipe
@pytest.mark.parametrize("name", ["blocks.5.attn.qkv.bias", "blocks.0.norm1.weight", "head.bias"])
def test_values_that_are_not_finite_anywhere(make: Callable[[], Recipe], name: str) -> None:
    net = tiny_vit()
    net.get_parameter(name).data[0] = torch.nan
    refused(net, make(), rf"{name}: .* not finite: .* load sound weights")


@every_recipe
def test_masks_may_be_infinite(make: Callable[[], Recipe]) -> None:
    """Those of attentions are on purpose; NaN is not."""
    net = tiny_vit()
    net.register_buffer("mask", torch.full((3, 3), float("-inf")).triu(1))
    make()(net)
    net = tiny_vit()
    net.register_buffer("mask", torch.full((3, 3), float("nan")))
    refused(net, make(), r"mask: .* not finite: .* load sound weights")


@every_recipe
def test_network_without_values(make: Callable[[], Recipe]) -> None:
    net = tiny_vit().to("meta")
    with pytest.raises(AdaptationError, match=r"embed\.weight has no values yet \(device meta\)"):
        make()(net)


def test_weight_that_is_computed() -> None:
    net = tiny_vit()
    nn.utils.parametrizations.weight_norm(net.blocks[3].attn.proj)
    with pytest.raises(AdaptationError, match=r"blocks\.3\.attn\.proj is computed by a param"):
        SoRA(rank=2)(net)


def test_tied_bias() -> None:
    net = tiny_vit()
    net.blocks[3].attn.proj.bias = net.blocks[4].attn.proj.bias
    refused(net, SoRA(rank=2), r"the bias of blocks\.3\.attn\.proj is tied to blocks\.4")


@pytest.mark.parametrize("start", ["a", 1.5, True])
def test_start_block_that_is_no_number(start: Any) -> None:
    refused(tiny_vit(), SoRA(rank=2, start_block=start), "start_block must be a whole number, got")
    refused(tiny_vit(), BitFit(start_block=start), "start_block must be a whole number, got")


def test_targets_that_are_no_names() -> None:
    with pytest.raises(AdaptationError, match=r"targets must be a list of names, got \[3\]"):
        SoRA(rank=2, targets=[3])


def test_zeros_cannot_train_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    net = tiny_vit()
    nn.init.zeros_(net.blocks[3].attn.proj.weight)
    SoRA(rank=2)(net)
    assert "1 layers have zeros for components" in caplog.text
    assert "blocks.3.attn.proj" in caplog.text
    caplog.clear()
    SoRA(rank=2)(tiny_vit())
    LoRA(rank=2)(tiny_vit())
    assert "zeros" not in caplog.text
