"""Weight files: layouts, resizing and what is said of a file that does not fit."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from sora_det.backbones import fuse_qkv, load_vit, read_state, split_qkv, vit
from sora_det.backbones.timm_vit import embed
from sora_det.backbones.weights import load_strictly, resize_kernel, resize_position

TINY: dict[str, Any] = {"embed_dim": 16, "depth": 2, "num_heads": 2}


def random_like(state: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {k: torch.randn(v.shape, generator=generator) for k, v in state.items()}


def build(name: str, **kwargs: Any) -> nn.Module:
    return vit(name, random_init=True, **{**TINY, **kwargs})


def official_dinov2(registers: int = 0) -> dict[str, Tensor]:
    """Return random weights as DINOv2's authors store them: 14 x 14 patches, a 37 x 37 grid."""
    state = build("vit_small_patch14_dinov2", patch_size=None).state_dict()
    state["mask_token"] = torch.zeros(1, 16)
    if registers:
        state["register_tokens"] = torch.zeros(1, registers, 16)
    return random_like(state)


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "teacher"])
def test_files_of_torch_with_and_without_a_wrapper(tmp_path: Path, wrapper: str | None) -> None:
    state = {"a": torch.arange(3.0)}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, tmp_path / "x.pth")
    assert torch.equal(read_state(tmp_path / "x.pth")["a"], state["a"])


def test_safetensors_file(tmp_path: Path) -> None:
    save_file({"a": torch.arange(3.0)}, tmp_path / "x.safetensors")
    assert read_state(str(tmp_path / "x.safetensors"))["a"].tolist() == [0, 1, 2]


def test_files_that_hold_no_plain_tensors(tmp_path: Path) -> None:
    torch.save({"model": {}, "args": argparse.Namespace(lr=1)}, tmp_path / "objects.pth")
    with pytest.raises(ValueError, match=r"objects\.pth cannot be read as plain tensors"):
        read_state(tmp_path / "objects.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list, not named tensors"):
        read_state(tmp_path / "list.pth")
    torch.save({"a": torch.ones(1), "epoch": 3}, tmp_path / "mixed.pth")
    with pytest.raises(ValueError, match="no tensors: epoch"):
        read_state(tmp_path / "mixed.pth")
    for name in ("cut.safetensors", "cut.pth"):
        (tmp_path / name).write_bytes(b"\x00" * 20)
        with pytest.raises(ValueError, match="cut"):
            read_state(tmp_path / name)


def test_official_dinov2_file_for_larger_patches(tmp_path: Path) -> None:
    state = official_dinov2()
    torch.save(state, tmp_path / "dinov2.pth")
    path = str(tmp_path / "dinov2.pth")
    net = vit("vit_small_patch14_dinov2", weights=path, img_size=(320, 640), **TINY)
    own = net.state_dict()
    kernel = resize_kernel(state["patch_embed.proj.weight"], (16, 16))
    assert torch.equal(own["patch_embed.proj.weight"], kernel)
    assert torch.equal(own["pos_embed"], resize_position(state["pos_embed"], (20, 40), prefix=1))
    for name in state.keys() - {"mask_token", "pos_embed", "patch_embed.proj.weight"}:
        assert torch.equal(own[name], state[name]), name


def test_official_registers_give_the_tokens_of_their_authors() -> None:
    state = official_dinov2(registers=4)
    net = build("vit_small_patch14_reg4_dinov2", patch_size=None)
    load_vit(net, state, source="file")
    images = torch.randn(1, 3, 37 * 14, 37 * 14)
    tokens = embed(net, images)
    # The authors add positions to class and patches, then put the registers between them.
    patches = net.patch_embed.proj(images).flatten(2).transpose(1, 2)
    want = torch.cat([state["cls_token"], patches], dim=1) + state["pos_embed"]
    want = torch.cat([want[:, :1], state["register_tokens"], want[:, 1:]], dim=1)
    assert_close(tokens, want)


def test_swiglu_names_of_the_giant_model() -> None:
    net = nn.Module()
    net.patch_embed = timm.layers.PatchEmbed(32, 16, embed_dim=4)
    net.mlp = nn.Sequential()
    net.blocks = nn.ModuleList([timm.layers.SwiGLUPacked(4, 8)])
    renamed = {f"blocks.0.mlp.{k}": v for k, v in net.blocks[0].state_dict().items()}
    block = nn.Module()
    block.mlp = net.blocks[0]
    net.blocks = nn.ModuleList([block])
    official = {
        k.replace("fc1", "w12").replace("fc2", "w3"): v for k, v in random_like(renamed).items()
    }
    official |= {f"patch_embed.{k}": v for k, v in net.patch_embed.state_dict().items()}
    load_vit(net, official, source="file")
    assert torch.equal(block.mlp.fc1.weight, official["blocks.0.mlp.w12.weight"])


def test_prefix_of_a_training_checkpoint_is_taken_off() -> None:
    net = build("vit_tiny_patch16_224")
    state = random_like(net.state_dict())
    both = {f"backbone.{k}": v for k, v in state.items()} | {"dino_head.mlp.weight": torch.ones(1)}
    load_vit(net, both, source="file")
    assert torch.equal(net.cls_token, state["cls_token"])
    with pytest.raises(ValueError, match=r"2 networks: student\., teacher\."):
        load_vit(net, {f"{p}.{k}": v for p in ("student", "teacher") for k, v in state.items()},
                 source="file")  # fmt: skip


def test_split_and_fused_layouts_load_the_same() -> None:
    net = build("vit_tiny_patch16_224")
    state = random_like(net.state_dict())
    split = split_qkv(state)
    assert "blocks.0.attn.q.weight" in split
    assert "blocks.0.attn.qkv.weight" not in split
    assert all(torch.equal(v, state[k]) for k, v in fuse_qkv(split).items())
    load_vit(net, split, source="file")
    assert torch.equal(net.blocks[1].attn.qkv.bias, state["blocks.1.attn.qkv.bias"])


def test_incomplete_split_layer_is_reported() -> None:
    net = build("vit_tiny_patch16_224")
    state = split_qkv(net.state_dict())
    del state["blocks.1.attn.k.weight"]
    with pytest.raises(ValueError, match=r"1 missing: blocks\.1\.attn\.qkv\.weight.*2 unexpected"):
        load_vit(net, state, source="file")


def test_final_norm_under_either_name_and_unused_heads() -> None:
    net = build("vit_tiny_patch16_224")
    state = random_like(net.state_dict())
    file = {k.replace("norm.", "fc_norm.") if k.startswith("norm.") else k: v
            for k, v in state.items()}  # fmt: skip
    file |= {"head.weight": torch.ones(1), "attn_pool.q.weight": torch.ones(1)}
    load_vit(net, file, source="file")
    assert torch.equal(net.norm.weight, state["norm.weight"])


def test_sam_tables_are_resized() -> None:
    kwargs = {"window_size": 2, "global_attn_indexes": (1,)}
    small = build("samvit_base_patch16", img_size=64, **kwargs)
    large = build("samvit_base_patch16", img_size=128, **kwargs)
    load_vit(small, random_like(large.state_dict()), source="file")
    assert small.blocks[1].attn.rel_pos_h.shape == (2 * 4 - 1, 8)
    assert small.pos_embed.shape == (1, 4, 4, 16)
    assert not small.pos_embed.eq(0).any()


def test_rectangular_positions_of_the_same_size_stay() -> None:
    position = torch.randn(1, 1 + 6, 4)
    assert resize_position(position, (2, 3), prefix=1) is position
    square = torch.randn(1, 1 + 16, 4)
    turned = resize_position(square, (2, 8), prefix=1)  # as many entries, another grid
    assert turned.shape == square.shape
    assert not torch.equal(turned, square)
    assert torch.equal(turned[:, :1], square[:, :1])


def test_one_error_names_everything_that_does_not_fit() -> None:
    net = build("vit_tiny_patch16_224")
    state = dict(net.state_dict())
    before = {k: v.clone() for k, v in state.items()}
    del state["norm.weight"]
    state["cls_token"] = torch.zeros(1, 1, 8)
    state |= {f"blocks.{i}.norm1.weight": torch.zeros(16) for i in range(2, 12)}
    with pytest.raises(ValueError, match=r"model\.pth does not fit") as error:
        load_vit(net, state, source="model.pth")
    message = str(error.value)
    assert "1 missing: norm.weight;" in message
    assert "10 unexpected: blocks.2.norm1.weight, " in message
    assert "and 4 more" in message
    assert "cls_token (1, 1, 8) instead of (1, 1, 16)" in message
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_wanted_name_is_never_left_out() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="1 unexpected: head"):
        load_strictly(layer, {**layer.state_dict(), "head": torch.ones(1)}, source="file")
    load_strictly(layer, {**layer.state_dict(), "head": torch.ones(1)}, source="f", ignore=["head"])
