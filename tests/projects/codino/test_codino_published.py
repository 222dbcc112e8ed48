"""scripts/convert_soma_checkpoint.py: the published file and DINOv2's weights make a detector."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from detectron2.config import instantiate
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from projects.codino import CoDINO
from projects.codino.convert import convert_detector
from projects.codino.published import load_head
from sora_det.engine.checkpoint import load_model, read_checkpoint
from sora_det.engine.config import load_config

ROOT = Path(__file__).parents[3]
SHAPES = ROOT / "tests" / "data" / "parity" / "released_ckpt_shapes.json"
CONFIG = ROOT / "projects" / "codino" / "configs" / "dinov2_l_published_codino_weather.py"
NAME = "vit_tiny_patch16_224"
SMALL = f"""
from .full import *
backbone.net.name = "{NAME}"
backbone.net.img_size = 64
backbone.out_channels = 16
model.head.update(encoder_layers=1, decoder_layers=2, heads=4, hidden=8, queries=5)
model.auxiliary[0].roi_heads.box_head.fc_dims = [8, 8]
"""


def vit_part(net: nn.Module, *, first: int, rank: int) -> dict[str, Tensor]:
    """What the authors' tool would keep of a ViT, trained from block `first` on."""
    state = {}
    for name, value in net.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if kind != "bias":
            continue
        trained = name.startswith("blocks.") and int(name.split(".")[1]) >= first
        parts = [layer[:-3] + part for part in "qkv"] if layer.endswith("qkv") else [layer]
        for own, bias in zip(parts, value.chunk(len(parts)), strict=True):
            moved = trained and "norm" not in own
            state[f"backbone.model.{own}.bias"] = bias + 0.1 * moved
            if moved:
                inner = net.get_submodule(layer).in_features
                state[f"backbone.model.{own}.lora_A.weight"] = 0.1 * torch.randn(rank, inner)
                state[f"backbone.model.{own}.lora_B.weight"] = 0.1 * torch.randn(len(bias), rank)
    return state


def head_part(model: CoDINO) -> dict[str, Tensor]:
    """Random neck and heads under the reference's names, shaped as those of `model`."""
    own = model.state_dict()
    state = {}
    for name in json.loads(SHAPES.read_text())["shapes"]:
        if name.startswith("backbone."):
            continue
        rows = {"rpn_cls": 9, "rpn_reg": 36}.get(name.split(".")[1], 1)
        (ours,) = convert_detector({name: torch.empty(rows)})
        if ours in own:  # a smaller model has fewer layers
            state[name] = torch.randn_like(own[ours])
    return state


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "common").symlink_to(CONFIG.parent / "common")
    (tmp_path / "full.py").write_text(CONFIG.read_text().replace("....configs", ".configs"))
    names = "adaptation, backbone, benchmark, dataloader, hooks, lr_multiplier, model, optimizer"
    (tmp_path / "small.py").write_text(SMALL.replace("*", f"{names}, train"))
    return tmp_path / "small.py"


def test_published_file_to_detector(config: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = timm.create_model(NAME, num_classes=0)
    base, theirs, adapter, detector = (
        tmp_path / name for name in ("base.safetensors", "soma.pth", "a.safetensors", "d.pth")
    )
    save_file(net.state_dict(), base)
    cfg = load_config(config)
    cfg.backbone.net.random_init = True
    cfg.model.backbone = cfg.backbone
    head = head_part(instantiate(cfg.model))
    torch.save({"state_dict": vit_part(net, first=4, rank=2) | head}, theirs)

    script = ROOT / "scripts" / "convert_soma_checkpoint.py"
    files = ["--dinov2", base, "--output", adapter, "--detector", detector, "--config", config]
    done = subprocess.run(
        [sys.executable, str(script), str(theirs), "--model", NAME, *map(str, files)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    cfg = load_config(config)
    cfg.adaptation.file, cfg.backbone.net.weights = str(adapter), str(base)
    model = instantiate(cfg.model)
    load_model(model, read_checkpoint(detector))
    state = model.state_dict()
    for name, value in convert_detector(head).items():
        assert torch.equal(state[name], value), name
    layer = model.backbone.net.blocks[5].mlp.fc1
    known = torch.load(theirs)["state_dict"]
    stem = "backbone.model.blocks.5.mlp.fc1"
    product = known[f"{stem}.lora_B.weight"] @ known[f"{stem}.lora_A.weight"]
    assert_close(layer.weight, net.blocks[5].mlp.fc1.weight + product)
    with torch.no_grad():
        (found,) = model.eval()([{"image": torch.zeros(3, 64, 64)}])
    assert found["instances"].scores.isfinite().all()


def test_another_detector(config: Path) -> None:
    cfg = load_config(config)
    cfg.backbone.net.random_init = True
    cfg.model.backbone = cfg.backbone
    model = instantiate(cfg.model)
    head = head_part(model)
    head.pop("query_head.cls_branches.0.bias")
    head["neck.convs.0.gn.bias"] = torch.zeros(3)
    with pytest.raises(
        ValueError, match=r"1 missing, such as head\.class_branches.0.bias; 1 of an"
    ):
        load_head(model, head)


@pytest.mark.slow
def test_the_real_layout(tmp_path: Path) -> None:
    """743 tensors of the published shapes on a ViT-L: needs 6 GB of memory and 2 GB of disk."""
    shapes = json.loads(SHAPES.read_text())["shapes"]
    torch.manual_seed(0)
    name = "vit_large_patch14_dinov2"
    net = timm.create_model(name, num_classes=0, img_size=518)
    state = {key: 0.01 * torch.randn(shape) for key, shape in shapes.items()}
    state |= vit_part(net, first=8, rank=16)
    assert len(state) == 743
    base, theirs = tmp_path / "base.safetensors", tmp_path / "soma.pth"
    save_file(net.state_dict(), base)
    torch.save({"state_dict": state}, theirs)
    script = ROOT / "scripts" / "convert_soma_checkpoint.py"
    adapter, detector = tmp_path / "a.safetensors", tmp_path / "d.pth"
    files = ["--dinov2", base, "--output", adapter, "--detector", detector]
    done = subprocess.run(
        [sys.executable, str(script), str(theirs), *map(str, files)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    saved = read_checkpoint(detector)["model"]
    for key, value in convert_detector(state).items():
        assert torch.equal(saved.get(key, value), value), key
        assert key in saved or not key.endswith((".up", ".down"))
