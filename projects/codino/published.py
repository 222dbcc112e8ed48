"""The detector of the checkpoint that SoRA's authors published."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor

from sora_det.engine.checkpoint import Origin, model_state
from sora_det.engine.files import write_whole

from .convert import convert_detector
from .detector import CoDINO

VIT = "backbone.net."


def write_detector(
    cfg: DictConfig, head: Mapping[str, Tensor], path: Path, *, adapter: str, dinov2: str
) -> CoDINO:
    """Build a detector with published weights and write its checkpoint.

    Args:
        cfg: such as `dinov2_l_published_codino_weather.py`; its files are set here.
        head: neck and heads in the reference's names, `Published.head` of `read_published`.
        path: of the checkpoint. As those of training it leaves out the frozen weights.
        adapter: adapter file made of the same checkpoint.
        dinov2: DINOv2's weights, a local file.

    Returns:
        The detector.

    Raises:
        ValueError: as `load_head`.
    """
    cfg.adaptation.file, cfg.backbone.net.weights = adapter, dinov2
    model: CoDINO = instantiate(cfg.model)
    load_head(model, head)
    origin = Origin(weights=str(model.backbone.weights_source))
    state = {**model_state(model, whole=False), "origin": asdict(origin)}
    write_whole(path, lambda file: torch.save(state, file), checksum=True)
    return model


def load_head(model: CoDINO, head: Mapping[str, Tensor]) -> None:
    """Load neck and heads, in the reference's names, into `model`; its ViT stays as it is.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape; `model` is then unchanged.
    """
    found = convert_detector(head)
    own = {name: value for name, value in model.state_dict().items() if not name.startswith(VIT)}
    problems = {
        "missing": [name for name in own if name not in found],
        "unexpected": [name for name in found if name not in own],
        "of another shape": [
            name for name, value in found.items() if name in own and own[name].shape != value.shape
        ],
    }
    if any(problems.values()):
        told = "; ".join(
            f"{len(names)} {what}, such as {names[0]}" for what, names in problems.items() if names
        )
        raise ValueError(f"neck and heads do not fit this detector: {told}")
    model.load_state_dict(found, strict=False)
