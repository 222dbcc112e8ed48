"""The commands around adapter files, as a user types them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from sora_det.adapt import (
    SoRA,
    adapter_parameters,
    attach,
    load_adapter,
    read_adapter,
    save_adapter,
)
from tests.tools.process import ROOT, Ended, Started

Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def start(script: str, *arguments: str | Path) -> Ended:
        folder = tmp_path / f"output of {len(list(tmp_path.iterdir()))}"
        return Started(ROOT / "scripts" / script, *arguments, folder=folder).wait()

    return start


def vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=0).eval()


@pytest.fixture
def trained(tmp_path: Path) -> tuple[nn.Module, Path]:
    net = SoRA(rank=4)(vit())
    with torch.no_grad():
        for _, factor in adapter_parameters(net):
            factor += 0.02
    file = tmp_path / "adapter.safetensors"
    save_adapter(net, file)
    return net, file


def test_show(run: Run, trained: tuple[nn.Module, Path]) -> None:
    ended = run("adapter.py", "show", trained[1])
    header = json.loads(ended.out)
    assert (header["method"], header["base"], header["layers"]) == (
        "SoRA",
        "vit_tiny_patch16_224",
        8,
    )
    shown = json.loads(run("adapter.py", "show", trained[1], "--layers").out)
    assert shown["layers"]["blocks.1.attn.qkv"]["rank"] == 4


def test_export_and_import(run: Run, trained: tuple[nn.Module, Path], tmp_path: Path) -> None:
    net, file = trained
    folder, back = tmp_path / "peft", tmp_path / "back.safetensors"
    assert run("adapter.py", "export", file, folder).code == 0
    assert run("adapter.py", "import", folder, back).code == 0
    x = torch.randn(1, 3, 32, 32)
    assert_close(PeftModel.from_pretrained(vit(), folder)(x), net(x))
    assert_close(attach(vit(), read_adapter(back))(x), net(x))


@pytest.mark.parametrize(
    "arguments",
    [("show", "none"), ("export", "none", "folder"), ("import", "none", "file")],
    ids=lambda a: a[0],
)
def test_missing_input_is_one_line(run: Run, arguments: tuple[str, ...]) -> None:
    ended = run("adapter.py", *arguments)
    assert ended.code == 1
    assert ended.err.startswith("error: ")
    assert "none" in ended.err
    assert len(ended.err.splitlines()) == 1


def published(net: nn.Module) -> dict[str, torch.Tensor]:
    """A file of the authors' with the network's own biases and one adapted layer."""
    state = {}
    for name, value in net.state_dict().items():
        if name.endswith("qkv.bias"):
            for part, bias in zip("qkv", value.chunk(3), strict=True):
                state[name.replace("qkv", part)] = bias.clone()
        elif name.endswith("bias"):
            state[name] = value
    for kind in ("A", "B"):
        shape = (4, 192) if kind == "A" else (192, 4)
        state[f"blocks.1.attn.proj.lora_{kind}.weight"] = torch.randn(shape)
    return {f"backbone.model.{name}": value for name, value in state.items()}


def test_published_checkpoint(run: Run, tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    net = timm.create_model(name, num_classes=0).eval()
    base, theirs, file = (tmp_path / f for f in ("base.safetensors", "soma.pth", "out.safetensors"))
    save_file(net.state_dict(), base)
    state = published(net)
    torch.save({"state_dict": {**state, "neck.convs.0.conv.weight": torch.ones(2)}}, theirs)
    arguments = (theirs, "--dinov2", base, "--output", file, "--model", name)
    ended = run("convert_soma_checkpoint.py", *arguments)
    assert ended.code == 0, ended.err
    assert "left out: 1 tensors of neck and head" in ended.err

    up, down = (state[f"backbone.model.blocks.1.attn.proj.lora_{k}.weight"] for k in "BA")
    weight = net.blocks[1].attn.proj.weight + up @ down
    assert_close(load_adapter(net, file).blocks[1].attn.proj.weight, weight)

    ended = run("convert_soma_checkpoint.py", base, "--dinov2", base, "--output", file)
    assert ended.code == 1
    assert "not the published adapter" in ended.err
