"""The toy Co-DINO shrunk until a step takes a fraction of a second."""

from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from projects.codino import CoDINO
from sora_det.engine.config import load_config

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "projects" / "codino" / "configs" / "toy_sora_codino.py"
SIDE = 64

OVERRIDES = (
    f"backbone.net.img_size={SIDE}",
    "backbone.net.depth=2",
    "backbone.net.embed_dim=48",
    "backbone.net.patch_size=16",
    "backbone.out_channels=16",
    "adaptation.rank=2",
    "adaptation.start_file=null",
    f"benchmark.file={ROOT}/configs/benchmarks/diverse_weather.yaml",  # seven classes; not read
    "model.head.queries=20",
    "model.head.decoder_layers=2",
    "model.head.heads=4",
    "model.head.hidden=32",
    "model.head.denoising.queries=10",
    "model.auxiliary.0.roi_heads.batch_size_per_image=32",
    "model.auxiliary.0.roi_heads.box_head.fc_dims=[32,32]",
    "train.device=cpu",
)


def tiny_codino(*overrides: str) -> CoDINO:
    """Build the detector, the same one every time."""
    torch.manual_seed(0)
    return instantiate(load_config(CONFIG, [*OVERRIDES, *overrides]).model)


def sample(height: int, width: int, boxes: list[list[float]], labels: list[int]) -> dict[str, Any]:
    """Return noise with boxes, as a training loader gives it."""
    generator = torch.Generator().manual_seed(height * width)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    instances.gt_classes = torch.tensor(labels, dtype=torch.int64)
    return {"image": image, "height": height, "width": width, "instances": instances}


def train_step(model: torch.nn.Module, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Return the losses, after a backward pass from their sum."""
    model.train().zero_grad()
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    return losses
