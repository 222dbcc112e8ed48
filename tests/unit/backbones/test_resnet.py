"""Detectron2's ResNet with torchvision's weights."""

from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.layers import FrozenBatchNorm2d
from torch import nn
from torch.testing import assert_close

from sora_det.backbones import resnet_fpn


def torchvision_file(depth: int, folder: Path) -> tuple[nn.Module, str]:
    torch.manual_seed(0)
    net = getattr(torchvision.models, f"resnet{depth}")().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.3, 0.6)
                module.bias.normal_(std=0.1)
    torch.save(net.state_dict(), folder / "resnet.pth")
    return net, str(folder / "resnet.pth")


@pytest.mark.parametrize("depth", [18, 50])
def test_maps_are_those_of_torchvision(depth: int, tmp_path: Path) -> None:
    net, path = torchvision_file(depth, tmp_path)
    fpn = resnet_fpn(depth, weights=path).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = fpn.bottom_up(images)
        x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        for number in (1, 2, 3, 4):
            x = getattr(net, f"layer{number}")(x)
            got = maps[f"res{number + 1}"]
            assert_close(got, x, rtol=1e-4, atol=1e-4 * float(x.abs().max()))
    assert fpn.weights_source.startswith("resnet.pth (sha256 ")
    assert not fpn.random_init


def test_levels_strides_and_normalisation() -> None:
    fpn = resnet_fpn(18, random_init=True, out_channels=32)
    levels = fpn(torch.randn(1, 3, 64, 128))
    assert {name: tuple(x.shape[1:]) for name, x in levels.items()} == {
        "p2": (32, 16, 32),
        "p3": (32, 8, 16),
        "p4": (32, 4, 8),
        "p5": (32, 2, 4),
        "p6": (32, 1, 2),
    }
    assert [shape.stride for shape in fpn.output_shape().values()] == [4, 8, 16, 32, 64]
    assert fpn.pixel_mean == (123.675, 116.28, 103.53)
    assert fpn.random_init
    assert fpn.weights_source == "random initialisation"


def test_early_stages_and_norms_are_frozen(tmp_path: Path) -> None:
    _, path = torchvision_file(18, tmp_path)
    fpn = resnet_fpn(18, weights=path, freeze_at=2)
    trained = {n.split(".")[0] for n, p in fpn.bottom_up.named_parameters() if p.requires_grad}
    assert trained == {"res3", "res4", "res5"}
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fpn.modules())
    assert any(isinstance(m, FrozenBatchNorm2d) for m in fpn.modules())


def test_nothing_is_frozen_at_random_weights() -> None:
    fpn = resnet_fpn(18, random_init=True)
    assert all(p.requires_grad for p in fpn.parameters())
    assert any(isinstance(m, nn.BatchNorm2d) for m in fpn.modules())


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="depth must be one of"):
        resnet_fpn(20, random_init=True)
    for both in ({}, {"weights": "x.pth", "random_init": True}):
        with pytest.raises(ValueError, match=r"weights=<local file> and random_init=True"):
            resnet_fpn(18, **both)
    _, path = torchvision_file(18, tmp_path)
    with pytest.raises(ValueError, match=r"80 missing: res2\.2\.conv1\.weight, .* and 74 more"):
        resnet_fpn(34, weights=path)
