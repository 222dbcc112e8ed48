"""The ViT, its pyramid and SoRA in it against numbers made by the reference implementation."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

from sora_det.adapt import LowRankLinear, SoRA
from sora_det.backbones import ViTPyramid, adapted, split_qkv, vit
from sora_det.backbones.timm_vit import block_maps, embed, position_for
from sora_det.backbones.weights import resize_kernel, resize_position

DATA = Path(__file__).parents[1] / "data" / "parity"
MANIFEST = json.loads((DATA / "backbone_manifest.json").read_text())
CASE = MANIFEST["vit_tiny"]
TOLERANCE = CASE["tolerance"]
LEVELS = range(4)
QKV = {"q": 0, "k": 1, "v": 2}
GRADIENT_BLOCKS = (8, 11)


def close(got: Tensor, want: Tensor, kind: str) -> None:
    assert_close(got, want, rtol=0.0, atol=TOLERANCE[kind])


def under(numbers: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in numbers.items() if k.startswith(prefix)}


@pytest.fixture(scope="module")
def numbers() -> dict[str, Tensor]:
    return load_file(DATA / "vit_tiny.safetensors")


@pytest.fixture
def pyramid(numbers: dict[str, Tensor], tmp_path: Path) -> ViTPyramid:
    save_file(under(numbers, "base_sd."), tmp_path / "reference.safetensors")
    config = CASE["vit"]
    net = vit(
        "vit_tiny_patch16_224",
        weights=str(tmp_path / "reference.safetensors"),
        patch_size=config["patch_size"],
        img_size=config["img_size"],
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        init_values=config["init_values"],
    )
    return ViTPyramid(net, out_channels=16, blocks=config["out_indices"])


@pytest.fixture
def sora(pyramid: ViTPyramid) -> ViTPyramid:
    recipe = CASE["sora"]
    return adapted(
        pyramid, SoRA(rank=recipe["r"], alpha=recipe["alpha"], start_block=recipe["start_block"])
    )


def test_tokens_and_block_maps(pyramid: ViTPyramid, numbers: dict[str, Tensor]) -> None:
    close(embed(pyramid.net, numbers["x"]), numbers["tokens"], "tokens")
    maps = block_maps(pyramid.net, numbers["x"], pyramid.blocks)
    for level in LEVELS:
        close(maps[level], numbers[f"base.raw{level}"], "raw")


def test_resized_maps(pyramid: ViTPyramid, numbers: dict[str, Tensor]) -> None:
    for level, got in enumerate(pyramid.raw_maps(numbers["x"])):
        close(got, numbers[f"base.out{level}"], "out")


def test_another_image_size(pyramid: ViTPyramid, numbers: dict[str, Tensor]) -> None:
    close(position_for(pyramid.net, (6, 4)), numbers["rect.pos_embed"], "rect.pos_embed")
    for level, got in enumerate(pyramid.raw_maps(numbers["x_rect"])):
        close(got, numbers[f"base_rect.out{level}"], "out")


def layer_of(net: nn.Module, name: str) -> tuple[LowRankLinear, int]:
    """Return the layer that holds the reference's `name`, and its place among fused ones."""
    stem, _, leaf = name.rpartition(".")
    group = QKV.get(leaf, 0)
    layer = net.get_submodule(f"{stem}.qkv" if leaf in QKV else name)
    assert isinstance(layer, LowRankLinear)
    return layer, group


def adapted_names(numbers: dict[str, Tensor]) -> list[str]:
    names = under(numbers, "sora_init_sd.")
    return [n.removesuffix(".lora_A.weight") for n in names if n.endswith("lora_A.weight")]


def rows(tensor: Tensor, layer: LowRankLinear, group: int) -> Tensor:
    return tensor.chunk(layer.groups)[group]


def test_split_weights(sora: ViTPyramid, numbers: dict[str, Tensor]) -> None:
    want = under(numbers, "sora_init_sd.")
    names = adapted_names(numbers)
    assert len(names) == 4 * 6
    for name in names:
        layer, group = layer_of(sora.net, name)
        a, b = want[f"{name}.lora_A.weight"], want[f"{name}.lora_B.weight"]
        close(rows(layer.residual, layer, group), want[f"{name}.weight"], "sora_init_sd")
        close(layer.up[group] @ layer.down[group], b @ a, "sora_init_sd")


def test_split_factors_up_to_sign(sora: ViTPyramid, numbers: dict[str, Tensor]) -> None:
    want = under(numbers, "sora_init_sd.")
    names = [n for n in adapted_names(numbers) if smallest_gap(numbers, n) > 5e-3]
    assert len(names) >= 4 * 6 - 1
    for name in names:
        layer, group = layer_of(sora.net, name)
        a, b = want[f"{name}.lora_A.weight"], want[f"{name}.lora_B.weight"]
        down, up = layer.down[group], layer.up[group]
        sign = (down * a).sum(dim=1).sign()
        close(sign[:, None] * down, a, "sora_init_sd")
        close(up * sign, b, "sora_init_sd")


def smallest_gap(numbers: dict[str, Tensor], name: str) -> float:
    """Return how near, relatively, two of the weakest singular values are.

    Float32 leaves the vectors of near ones undetermined beyond the tolerance; their span is not.
    """
    values = torch.linalg.svdvals(numbers[f"base_sd.{name}.weight"].double())
    weakest = values[-CASE["sora"]["r"] - 1 :]
    return float((1 - weakest[1:] / weakest[:-1]).min())


def test_output_at_the_start(sora: ViTPyramid, numbers: dict[str, Tensor]) -> None:
    for level, got in enumerate(sora.raw_maps(numbers["x"])):
        close(got, numbers[f"sora_init.out{level}"], "out")


def with_reference_weights(net: nn.Module, numbers: dict[str, Tensor]) -> None:
    start, moved = under(numbers, "sora_init_sd."), under(numbers, "sora_pert_sd.")
    with torch.no_grad():
        for name in adapted_names(numbers):
            layer, group = layer_of(net, name)
            rows(layer.residual, layer, group).copy_(start[f"{name}.weight"])
            layer.down[group].copy_(moved[f"{name}.lora_A.weight"])
            layer.up[group].copy_(moved[f"{name}.lora_B.weight"])


def test_output_loss_and_gradients_after_training(
    sora: ViTPyramid, numbers: dict[str, Tensor]
) -> None:
    with_reference_weights(sora.net, numbers)
    maps = sora.raw_maps(numbers["x"])
    for level, got in enumerate(maps):
        close(got, numbers[f"sora_pert.out{level}"], "out")

    loss = sum((got * numbers[f"G{level}"]).sum() for level, got in enumerate(maps))
    assert_close(loss[None], numbers["loss"], rtol=TOLERANCE["loss (relative)"], atol=0.0)
    loss.backward()
    gradients = under(numbers, "sora_pert.grad.")
    names = {name.split(".lora_")[0] for name in gradients if ".lora_" in name}
    assert len(gradients) == 3 * len(names) == 3 * 6 * len(GRADIENT_BLOCKS)
    for name in names:
        layer, group = layer_of(sora.net, name)
        close(layer.down.grad[group], gradients[f"{name}.lora_A.weight"], "grad")
        close(layer.up.grad[group], gradients[f"{name}.lora_B.weight"], "grad")
        close(rows(layer.bias.grad, layer, group), gradients[f"{name}.bias"], "grad")


@pytest.fixture(scope="module")
def conversion() -> dict[str, Tensor]:
    return load_file(DATA / "convert.safetensors")


def test_converted_kernel(conversion: dict[str, Tensor]) -> None:
    name = "patch_embed.proj.weight"
    got = resize_kernel(conversion[f"src.{name}"], tuple(MANIFEST["convert"]["patch"]))
    tolerance = MANIFEST["convert"]["tolerance"]
    assert_close(got, conversion[f"dst1024.{name}"], rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("target", ["dst1024", "dst512", "dst320x640"])
def test_converted_position(conversion: dict[str, Tensor], target: str) -> None:
    grid = tuple(MANIFEST["convert"]["grids"][target])
    got = resize_position(conversion["src.pos_embed"], grid, prefix=1)
    tolerance = MANIFEST["convert"]["tolerance"]
    assert_close(got, conversion[f"{target}.pos_embed"], rtol=0.0, atol=tolerance)


def test_everything_else_is_converted_as_it_is(conversion: dict[str, Tensor]) -> None:
    got, want = split_qkv(under(conversion, "src.")), under(conversion, "dst1024.")
    assert got.keys() == want.keys()
    for name in want.keys() - {"pos_embed", "patch_embed.proj.weight"}:
        assert torch.equal(got[name], want[name]), name
