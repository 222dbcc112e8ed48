"""Exported backbones run without this package and compute the same maps."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import Backbone
from torch import Tensor, nn

from sora_det.adapt import LoRA, LowRankLinear, adapted_layers
from sora_det.backbones import ViTPyramid, adapted, vit
from sora_det.engine import export
from sora_det.engine.export import Maps, export_backbone


class Detector(nn.Module):
    """What an export looks at of a detector."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        tiny = {"img_size": 64, "depth": 3, "embed_dim": 48, "num_heads": 3}
        net = vit("vit_tiny_patch16_224", random_init=True, **tiny)
        self.backbone: Backbone = adapted(ViTPyramid(net, out_channels=16), LoRA(rank=2))
        for layer in adapted_layers(self.backbone).values():
            assert isinstance(layer, LowRankLinear)
            nn.init.normal_(layer.up)
        self.pixel_mean = nn.Buffer(torch.full((3, 1, 1), 120.0))
        self.pixel_std = nn.Buffer(torch.full((3, 1, 1), 60.0))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector().eval()


def pixels(height: int, width: int) -> Tensor:
    return 255 * torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def check(found: dict[str, Tensor], detector: Detector, images: Tensor) -> None:
    wanted = detector.backbone((images - 120) / 60)
    assert list(found) == list(wanted) == ["p2", "p3", "p4", "p5", "p6"]
    for name, want in wanted.items():
        largest = float(want.detach().abs().max())
        torch.testing.assert_close(found[name], want.detach(), rtol=0, atol=1e-5 * largest)


def test_torch_export(detector: Detector, tmp_path: Path) -> None:
    export_backbone(detector, [tmp_path / "new" / "net.pt2"], (1, 64, 96))
    program = torch.export.load(tmp_path / "new" / "net.pt2").module()
    images = pixels(64, 96)
    check(dict(zip(Maps(detector).names, program(images), strict=True)), detector, images)
    assert adapted_layers(detector)  # the detector itself is as it was


def test_onnx(detector: Detector, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export_backbone(detector, [tmp_path / "net.onnx"], (1, 64, 64))
    session = onnxruntime.InferenceSession(
        tmp_path / "net.onnx", providers=["CPUExecutionProvider"]
    )
    images = pixels(64, 64)
    names = [output.name for output in session.get_outputs()]
    maps = [torch.tensor(one) for one in session.run(names, {"images": images.numpy()})]
    check(dict(zip(names, maps, strict=True)), detector, images)


def test_kinds_of_files(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"net\.pt: a name must end in one of \.pt2, \.onnx"):
        export_backbone(detector, [tmp_path / "net.pt"], (1, 64, 64))


def test_missing_packages(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "NEEDED", ("no_such_package",))
    with pytest.raises(ValueError, match="needs no_such_package: install sora_det with the extra"):
        export_backbone(detector, [tmp_path / "net.onnx"], (1, 64, 64))


def test_a_file_that_computes_something_else(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(net: Maps, *_: object) -> export.Run:
        return lambda images: [1.01 * one for one in net(images)]

    monkeypatch.setitem(export._WRITERS, ".pt2", wrong)
    with pytest.raises(ValueError, match=r"computes other maps: they differ by 1\.0e-02 of"):
        export_backbone(detector, [tmp_path / "net.pt2"], (1, 64, 64))
