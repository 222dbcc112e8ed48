"""A merged backbone as a file that runs without this package: torch.export's, or ONNX."""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..adapt import merge

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of the largest value of a map; float32 on two runtimes differs by some 1e-6
NEEDED = ("onnx", "onnxscript", "onnxruntime")

Run = Callable[[Tensor], Sequence[Tensor]]


class Maps(nn.Module):
    """The backbone of a detector of Detectron2 on pixels.

    Args:
        model: with `backbone`, `pixel_mean` and `pixel_std`; it is not changed.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone = merge(model.backbone).cpu()
        self.mean = nn.Buffer(model.pixel_mean.cpu())
        self.std = nn.Buffer(model.pixel_std.cpu())
        self.names = tuple(model.backbone.output_shape())
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map RGB images (batch, 3, height, width) of 0..255 to the maps called `names`."""
        found = self.backbone((images - self.mean) / self.std)
        return tuple(found[name] for name in self.names)


@torch.no_grad()
def export_backbone(model: nn.Module, files: Sequence[str | Path], shape: Sequence[int]) -> None:
    """Write the merged backbone of a detector, run every file and compare what comes out.

    Args:
        model: a detector of Detectron2 that normalises images itself.
        files: to be written: .pt2 for torch.export.load, .onnx with its weights in a file beside.
        shape: (batch, height, width) that the files are for, and no other.

    Raises:
        ValueError: a file of another kind, a package that is missing, or a file whose maps differ
            by more than `TOLERANCE` of their largest value.
    """
    paths = [Path(file) for file in files]
    for path in paths:
        if path.suffix not in _WRITERS:
            raise ValueError(f"{path}: a name must end in one of {', '.join(_WRITERS)}")
        _check_packages(path)
    net = Maps(model)
    batch, height, width = shape
    images = 255 * torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    wanted = net(images)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = _WRITERS[path.suffix](net, images, path)(images)
        difference = _difference(found, wanted)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{path} computes other maps: they differ by {difference:.1e} of the largest value"
            )
        logger.info("%s: differs by %.1e of the largest value", path, difference)


def _check_packages(path: Path) -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if path.suffix == ".onnx" and missing:
        raise ValueError(
            f"{path} needs {', '.join(missing)}: install sora_det with the extra `export`"
        )


def _program(net: Maps, images: Tensor, path: Path) -> Run:
    torch.export.save(torch.export.export(net, (images,), strict=False), path)
    run: Run = torch.export.load(path).module()
    return run


def _onnx(net: Maps, images: Tensor, path: Path) -> Run:
    import onnxruntime  # an extra

    torch.onnx.export(
        net,
        (images,),
        path,
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=list(net.names),
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(pixels: Tensor) -> list[Tensor]:
        found = session.run(None, {"images": pixels.numpy()})
        return [torch.from_numpy(np.array(one)) for one in found]

    return run


def _difference(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    pairs = zip(found, wanted, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


_WRITERS: dict[str, Callable[[Maps, Tensor, Path], Run]] = {".pt2": _program, ".onnx": _onnx}
