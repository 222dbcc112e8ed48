"""What every recipe trains, how it starts, and what it remembers on disk."""

import copy
import json
import logging
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from adapt_nets import LOW_RANK, left_alone, low_rank_recipes, tiny_vit, tokens
from torch import Tensor, nn
from torch.testing import assert_close

from sora_det.adapt import (
    AdaptationError,
    BitFit,
    DoRA,
    DoRALinear,
    Frozen,
    Full,
    LoRA,
    LowRankLinear,
    MiLoRA,
    PiSSA,
    RsLoRA,
    Saved,
    SoRA,
    adapted_layers,
    adapter_parameters,
    merge,
    save_adapter,
    svd,
    trainable,
)
from sora_det.adapt.recipes import Recipe

Made = Callable[..., SoRA]


@pytest.fixture
def decompositions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of everything that was decomposed."""
    calls: list[tuple[int, ...]] = []

    def spied(find: Callable[..., svd.Triplets]) -> Callable[..., svd.Triplets]:
        def spy(weight: Tensor, rank: int, end: svd.End) -> svd.Triplets:
            calls.append(tuple(weight.shape))
            return find(weight, rank, end)

        return spy

    monkeypatch.setattr(svd, "_FIND", {name: spied(f) for name, f in svd._FIND.items()})
    return calls


def low(net: nn.Module) -> dict[str, LowRankLinear]:
    """The low-rank layers, with DoRA those of the directions."""
    return {n: m for n, m in net.named_modules() if isinstance(m, LowRankLinear)}


def trained(net: nn.Module) -> set[str]:
    return {name for name, parameter in net.named_parameters() if parameter.requires_grad}


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks hold the same bits under the same names."""
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


# What trains


def test_bitfit_trains_the_biases_of_the_late_blocks_with_their_norms() -> None:
    net = tiny_vit()
    before = copy.deepcopy(net)
    BitFit()(net)
    layers = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1")
    assert trained(net) == {f"blocks.{i}.{layer}.bias" for i in (2, 3, 4, 5) for layer in layers}
    assert same(net, before)
    assert net.sora_adaptation.method == "BitFit"
    assert net.sora_adaptation.start_block == 2


def test_bitfit_of_the_whole_depth() -> None:
    assert len(trained(BitFit(start_block=0)(tiny_vit()))) == 6 * 5


def test_full_and_frozen() -> None:
    net = tiny_vit()
    net.embed.requires_grad_(False)  # the network's own choice, such as a frozen stem
    names = trained(net)
    assert trained(Full()(net)) == names
    assert not trained(Frozen()(tiny_vit()))


@low_rank_recipes
@pytest.mark.parametrize("train_bias", [True, False])
def test_low_rank_methods_train_factors_and_biases(recipe: type[LoRA], train_bias: bool) -> None:
    net = recipe(rank=2, start_block=4, train_bias=train_bias)(tiny_vit())
    kinds = ["direction.up", "direction.down", "magnitude"] if recipe is DoRA else ["up", "down"]
    layers = [f"blocks.{i}.{m}" for i in (4, 5) for m in ("attn.qkv", "attn.proj", "mlp.fc1")]
    without_bias = [f"blocks.{i}.mlp.fc2" for i in (4, 5)]
    assert set(adapted_layers(net)) == {*layers, *without_bias}
    factors = {f"{layer}.{kind}" for layer in layers + without_bias for kind in kinds}
    assert {name for name, _ in adapter_parameters(net)} == factors
    biases = {f"{layer}.bias" for layer in layers}
    assert trained(net) == factors | (biases if train_bias else set())


@low_rank_recipes
def test_training_moves_what_trains_and_nothing_else(recipe: type[LoRA]) -> None:
    net = recipe(rank=2, start_block=4)(tiny_vit())
    before = copy.deepcopy(net.state_dict())
    names = trained(net)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):  # more than one: LoRA's down has no gradient while up is zero
        optimizer.zero_grad()
        net(tokens()).square().sum().backward()
        optimizer.step()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]) != (name in names), name


def test_targets() -> None:
    net = LoRA(rank=1, start_block=4, targets=["fc1", "proj"])(tiny_vit())
    names = [f"blocks.{i}.{m}" for i in (4, 5) for m in ("attn.proj", "mlp.fc1")]
    assert list(adapted_layers(net)) == names


def test_qkv_is_three_groups_the_rest_one() -> None:
    net = SoRA(rank=2)(tiny_vit())
    for name, layer in low(net).items():
        assert layer.groups == (3 if name.endswith("qkv") else 1)


def test_dora_lengths_count_as_adapter() -> None:
    net = DoRA(rank=2, start_block=5)(tiny_vit())
    rows = {"qkv": 48, "proj": 16, "fc1": 32, "fc2": 16}
    factors = 3 * 2 * (16 + 16) + 2 * (16 + 16) + 2 * 2 * (16 + 32)
    counts = trainable(net)
    assert counts.adapter == factors + sum(rows.values())
    assert counts.layers == 4
    assert counts.other == 0


# Ranks and scales


@pytest.mark.parametrize("alpha", [None, 4.0])
def test_ramp(alpha: float | None) -> None:
    """The reference's [[12, 2], [16, 4], [20, 8]] for 24 blocks, scaled to 6."""
    net = SoRA(rank=1, alpha=alpha, ramp=[[3, 2], [4, 4], [5, 8]])(tiny_vit())
    for name, layer in low(net).items():
        rank = {2: 1, 3: 2, 4: 4, 5: 8}[int(name.split(".")[1])]
        assert layer.rank == rank
        assert layer.scale == (1.0 if alpha is None else alpha / rank)


def test_ramp_before_the_first_adapted_block() -> None:
    net = SoRA(rank=1, start_block=4, ramp=((0, 2), (5, 3)))(tiny_vit())
    assert [layer.rank for layer in low(net).values()] == [2] * 4 + [3] * 4


@low_rank_recipes
@pytest.mark.parametrize(("alpha", "divided"), [(None, 4.0), (6, 6.0)])
def test_scale(recipe: type[LoRA], alpha: float | None, divided: float) -> None:
    net = recipe(rank=4, alpha=alpha, ramp=[[5, 2]])(tiny_vit())
    for name, layer in low(net).items():
        late = name.startswith("blocks.5.")
        rank = 8 if late else 4
        top = rank if alpha is None else divided
        assert layer.scale == pytest.approx(top / (rank**0.5 if recipe is RsLoRA else rank))


# Starts


@low_rank_recipes
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_network_starts_as_pretrained(recipe: type[LoRA], dtype: torch.dtype) -> None:
    net = tiny_vit().to(dtype)
    x = tokens().to(dtype)
    want = net(x)
    tolerance = {"rtol": 0.05, "atol": 0.05} if dtype == torch.bfloat16 else {}
    assert recipe(rank=2, alpha=3)(net) is net
    assert_close(net(x), want, **tolerance)
    assert_close(merge(net)(x), want, **tolerance)


def test_milora_starts_as_sora() -> None:
    net = tiny_vit()
    assert same(SoRA(rank=2)(copy.deepcopy(net)), MiLoRA(rank=2)(copy.deepcopy(net)))


def test_ends_of_the_spectrum() -> None:
    net = tiny_vit()
    values = torch.linalg.svdvals(net.blocks[3].mlp.fc1.weight.double())
    for recipe, want in ((SoRA, values[-2:]), (PiSSA, values[:2])):
        layer = low(recipe(rank=2, alpha=1)(copy.deepcopy(net)))["blocks.3.mlp.fc1"]
        product = layer.scale * layer.up[0].double() @ layer.down[0].double()
        assert_close(torch.linalg.svdvals(product)[:2], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("recipe", [SoRA, PiSSA])
def test_exact_solver_and_autocast_start_alike(recipe: Made) -> None:
    """A mixed-precision context around the build must not round the start."""
    net = tiny_vit()
    want = recipe(rank=2)(copy.deepcopy(net))
    exact = recipe(rank=2, solver="exact")(copy.deepcopy(net))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = recipe(rank=2)(copy.deepcopy(net))
    assert same(want, mixed)
    for name, product in products(want).items():
        assert_close(products(exact)[name], product)  # the factors may differ in their signs


@low_rank_recipes
def test_merging_within_autocast_does_not_round(recipe: type[LoRA]) -> None:
    net = recipe(rank=2)(tiny_vit())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = merge(net)
    assert same(mixed, merge(net))


class Wide(nn.Module):
    """The layers of a ViT-L block at an eighth of their width, where FACTS measured full ones."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.Module()
        block.fc1, block.fc2, block.proj = (
            nn.Linear(128, 512),
            nn.Linear(512, 128),
            nn.Linear(128, 128),
        )
        self.blocks = nn.ModuleList([block])


def products(net: nn.Module) -> dict[str, Tensor]:
    return {
        name: layer.scale * (layer.up @ layer.down).detach() for name, layer in low(net).items()
    }


def test_official_start_adds_minor_components_of_a_random_matrix() -> None:
    net = Wide()
    pretrained = copy.deepcopy(net.state_dict())
    SoRA(rank=2, alpha=6.0, start="official")(net)
    bounds = {"fc1": (0.57, 0.63), "fc2": (0.28, 0.32), "proj": (1e-5, 0.03)}
    for name, product in products(net).items():
        layer = low(net)[name]
        assert torch.equal(layer.residual, pretrained[f"{name}.weight"])
        assert layer.up0 is None
        assert layer.down0 is None
        values = torch.linalg.svdvals(product[0])
        least, most = bounds[name.rpartition(".")[2]]
        assert ((least < values[:2]) & (values[:2] < most)).all(), (name, values[:2])
        assert values[2] < 1e-5
        assert not torch.allclose(layer.weight, pretrained[f"{name}.weight"], atol=1e-4)


def test_official_start_is_not_the_pretrained_network() -> None:
    net, x = tiny_vit(), tokens()
    before = net(x)
    assert (SoRA(rank=2, start="official")(net)(x) - before).abs().max() > 1e-3


def test_official_start_follows_the_seed() -> None:
    def build(seed: int) -> nn.Module:
        return SoRA(rank=2, start="official", seed=seed)(tiny_vit())

    state = torch.get_rng_state()
    assert same(build(1), build(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert not same(build(1), build(2))
    # Each layer has random weights of its own.
    net = build(1)
    late = [products(net)[f"blocks.{i}.attn.proj"] for i in (4, 5)]
    assert not torch.allclose(*late)


def test_pretrained_start_draws_nothing() -> None:
    for recipe in (SoRA(rank=2), MiLoRA(rank=2), PiSSA(rank=2)):
        state = torch.get_rng_state()
        recipe(tiny_vit())
        assert torch.equal(torch.get_rng_state(), state)


# Start files


@pytest.mark.parametrize("recipe", [SoRA, MiLoRA, PiSSA])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_start_file_spares_the_second_run(
    recipe: Made, dtype: torch.dtype, tmp_path: Path, decompositions: list[tuple[int, ...]]
) -> None:
    file = tmp_path / "new" / "start.safetensors"
    make = recipe(rank=2, alpha=3.0, ramp=[[4, 2]], start_file=str(file))
    plain = recipe(rank=2, alpha=3.0, ramp=[[4, 2]])(tiny_vit().to(dtype))
    decompositions.clear()

    first = make(tiny_vit().to(dtype))
    assert sum(shape[0] for shape in decompositions) == 4 * (3 + 3)  # matrices
    written = file.read_bytes()
    decompositions.clear()
    again = make(tiny_vit().to(dtype))
    assert not decompositions
    assert file.read_bytes() == written
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert same(first, again)
    assert same(first, plain)
    assert trained(first) == trained(again)


def remade(
    file: Path, recipe: SoRA, net: nn.Module, decompositions: list[tuple[int, ...]]
) -> nn.Module:
    """Build with a file that does not fit, and assert that it was replaced."""
    before = file.read_bytes()
    decompositions.clear()
    built = recipe(net)
    assert decompositions, "the file of something else was used"
    assert file.read_bytes() != before
    decompositions.clear()
    return built


@pytest.mark.parametrize(
    "other",
    [
        SoRA(rank=3),
        SoRA(rank=2, alpha=1.0),
        SoRA(rank=2, start_block=3),
        SoRA(rank=2, targets=["proj"]),
        SoRA(rank=2, ramp=[[5, 2]]),
        SoRA(rank=2, start="official"),
        SoRA(rank=2, solver="exact"),
        PiSSA(rank=2),
    ],
    ids=str,
)
def test_start_file_of_other_arguments_is_made_anew(
    other: SoRA, tmp_path: Path, decompositions: list[tuple[int, ...]]
) -> None:
    file = tmp_path / "start.safetensors"
    SoRA(rank=2, start_file=str(file))(tiny_vit())
    torch.manual_seed(5)
    want = other(tiny_vit())
    other = copy.copy(other)
    other.start_file = str(file)
    torch.manual_seed(5)
    assert same(remade(file, other, tiny_vit(), decompositions), want)


def test_start_file_of_other_weights_is_made_anew(
    tmp_path: Path, decompositions: list[tuple[int, ...]]
) -> None:
    file = tmp_path / "start.safetensors"
    make = SoRA(rank=2, start_file=str(file))
    make(tiny_vit())
    net = tiny_vit()
    net.blocks[5].mlp.fc2.weight.data[0, 0] += 1e-6
    want = SoRA(rank=2)(copy.deepcopy(net))
    assert same(remade(file, make, net, decompositions), want)


def test_weights_that_are_not_adapted_do_not_matter(
    tmp_path: Path, decompositions: list[tuple[int, ...]]
) -> None:
    make = SoRA(rank=2, start_file=str(tmp_path / "start.safetensors"))
    make(tiny_vit())
    net = tiny_vit()
    net.head.weight.data += 1
    decompositions.clear()
    make(net)
    assert not decompositions


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_broken_start_file_is_made_anew_with_a_warning(
    kept: int,
    tmp_path: Path,
    decompositions: list[tuple[int, ...]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "start.safetensors"
    make = SoRA(rank=2, start_file=str(file))
    want = make(tiny_vit())
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    with caplog.at_level(logging.WARNING, logger="sora_det"):
        assert same(remade(file, make, tiny_vit(), decompositions), want)
    assert "cannot be read and is made anew" in caplog.text
    assert file.read_bytes() == whole


def test_start_file_with_a_changed_value_is_made_anew(
    tmp_path: Path, decompositions: list[tuple[int, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "start.safetensors"
    make = SoRA(rank=2, start_file=str(file))
    want = make(tiny_vit())
    whole = file.read_bytes()
    for value in (0.5, float("nan")):
        raw = bytearray(whole)
        raw[-4:] = struct.pack("<f", value)
        file.write_bytes(raw)
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="sora_det"):
            assert same(remade(file, make, tiny_vit(), decompositions), want)
        assert "is damaged (its checksum differs): it is made anew" in caplog.text
        assert file.read_bytes() == whole


def test_file_of_another_kind_is_made_anew(
    tmp_path: Path, decompositions: list[tuple[int, ...]]
) -> None:
    file = tmp_path / "start.safetensors"
    file.write_text("no safetensors at all, but some longer text")
    remade(file, SoRA(rank=2, start_file=str(file)), tiny_vit(), decompositions)


def test_official_start_with_a_file(tmp_path: Path, decompositions: list[tuple[int, ...]]) -> None:
    file = tmp_path / "start.safetensors"

    def official(seed: int) -> SoRA:
        return SoRA(rank=2, start="official", seed=seed, start_file=str(file))

    first = official(1)(tiny_vit())
    decompositions.clear()
    again = official(1)(tiny_vit())
    assert not decompositions
    assert same(first, again)
    assert all(layer.up0 is None for layer in low(again).values())
    assert not same(remade(file, official(2), tiny_vit(), decompositions), first)


def test_resuming_overwrites_what_a_file_gave(tmp_path: Path) -> None:
    """A checkpoint is loaded over the start: nothing of the start may be shared between nets."""
    make = SoRA(rank=2, start_file=str(tmp_path / "start.safetensors"))
    nets = [make(tiny_vit()) for _ in range(2)]
    with torch.no_grad():
        for parameter in nets[0].parameters():
            parameter.fill_(3)
    assert same(nets[1], make(tiny_vit()))


# Going on from a file


def test_saved(tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    net = SoRA(rank=2)(tiny_vit())
    save_adapter(net, file)
    again = Saved(file=str(file))(tiny_vit(), progress=lambda steps: steps)
    assert same(again, net)
    assert trained(again) == trained(net)
    assert repr(Saved(file=str(file))) == "Saved(file=adapter.safetensors)"


def test_saved_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(AdaptationError, match="no adapter file is given: set `file`"):
        Saved(file="")
    with left_alone(net := tiny_vit()), pytest.raises(FileNotFoundError):
        Saved(file=str(tmp_path / "none.safetensors"))(net)


# The rest


@low_rank_recipes
def test_progress_is_used(recipe: type[LoRA]) -> None:
    seen: list[int] = []

    def progress(steps: Sequence[Any]) -> Sequence[Any]:
        seen.append(len(steps))
        return steps

    net = recipe(rank=2)(tiny_vit(), progress=progress)
    assert len(seen) == 1
    if not torch.cuda.is_available():
        assert seen == [len(adapted_layers(net))]


@pytest.mark.parametrize("recipe", [BitFit(), Full(), Frozen()])
def test_methods_without_steps_take_a_progress_bar_too(recipe: Recipe) -> None:
    assert recipe(tiny_vit(), progress=lambda steps: steps) is not None


def test_repr() -> None:
    assert repr(LoRA(rank=4)) == (
        "LoRA(rank=4, alpha=None, start_block=None, targets=None, train_bias=True)"
    )
    shown = repr(SoRA(rank=4, targets=["qkv"], ramp=[[2, 2]], start_file="somewhere"))
    assert shown == (
        "SoRA(rank=4, alpha=None, start_block=None, targets=('qkv',), train_bias=True, "
        "ramp=((2, 2),), start=pretrained, solver=krylov)"
    )
    assert repr(BitFit(start_block=1)) == "BitFit(start_block=1)"
    assert [repr(Full()), repr(Frozen())] == ["Full()", "Frozen()"]


@pytest.mark.parametrize(
    "make", [*(cls(rank=2, ramp=[[3, 2]]) for cls in LOW_RANK), BitFit(), Full(), Frozen()], ids=str
)
def test_record(make: Recipe) -> None:
    net = make(tiny_vit())
    record = net.sora_adaptation
    assert record.method == type(make).__name__
    assert record.base == "TinyViT"
    assert set(record.digests) >= set(adapted_layers(net))
    assert json.loads(json.dumps(record.options)) is not None
    assert not hasattr(merge(net), "adaptation")


# DoRA as a layer


def dora(rows: int = 8, columns: int = 6) -> tuple[nn.Linear, DoRALinear]:
    net = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(columns, rows)])})
    linear = copy.deepcopy(net["blocks"][0])
    return linear, DoRA(rank=2)(net)["blocks"][0]


def test_dora_trains_lengths() -> None:
    linear, layer = dora()
    assert_close(layer.magnitude, linear.weight.norm(dim=1))
    with torch.no_grad():
        layer.magnitude[3] = 5.0
        layer.direction.up += 0.3
    assert_close(layer.weight.norm(dim=1), layer.magnitude)
    layer(torch.ones(2, 6)).square().sum().backward()
    assert layer.magnitude.grad.abs().min() > 0


def test_dora_of_a_row_of_zeros_stays_at_zero() -> None:
    """Its direction is unknown; the first step must not give it a length of 1."""
    net = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(6, 8)])})
    net["blocks"][0].weight.data[2] = 0
    layer = DoRA(rank=2)(net)["blocks"][0]
    assert layer.weight[2].abs().max() == 0
    x = torch.randn(4, 6)
    layer(x).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.requires_grad)
    with torch.no_grad():
        layer.direction.up += 1e-4
    assert layer.weight[2].norm() < 1e-3


def test_dora_keeps_the_type_under_autocast() -> None:
    linear, layer = dora()
    x = torch.randn(3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        want, got = linear(x), layer(x)
        got.float().square().sum().backward()
    assert got.dtype == want.dtype == torch.bfloat16
    assert_close(got, want, rtol=0.02, atol=0.02)
    for _, factor in layer.factors():
        assert factor.grad.dtype == torch.float32
        assert factor.grad.isfinite().all()


@low_rank_recipes
def test_every_method_runs_under_autocast(recipe: type[LoRA]) -> None:
    net, x = tiny_vit(), tokens()
    with torch.autocast("cpu", torch.bfloat16):
        want = net(x)
        got = recipe(rank=2)(net)(x)
    assert got.dtype == want.dtype
    assert_close(got, want, rtol=0.05, atol=0.05)
