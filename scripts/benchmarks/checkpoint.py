"""Writing a training's checkpoint, beside Detectron2's own."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from torch import nn

from sora_det.engine.checkpoint import Checkpoints, model_state
from sora_det.engine.config import load_config

from .results import Result
from .timing import in_turns, ratio

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def checkpoint(
    repetitions: int,
    *,
    config: str = "dinov2_l_sora_frcnn_weather",
    overrides: Sequence[str] = (),
) -> Result:
    """Measure the checkpoints of a detector in training: weights and AdamW's state.

    Args:
        repetitions: of both ways.
        config: of configs/; its backbone is random here, which changes neither sizes nor times.
        overrides: of the config, key=value.
    """
    cfg = load_config(
        CONFIGS / f"{config}.py", ["backbone.net.random_init=true", *overrides, "train.device=cpu"]
    )
    model: nn.Module = instantiate(cfg.model)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # so that it has a state
    for name in ("fvcore.common.checkpoint", "sora_det.engine.checkpoint"):
        logging.getLogger(name).setLevel(logging.WARNING)

    def state() -> dict[str, object]:
        found = model_state(model, whole=False)
        return {**found, "trainer": {"iteration": 0, "optimizer": optimizer.state_dict()}}

    with tempfile.TemporaryDirectory() as place:
        store = Checkpoints(place, keep=1)
        peer = DetectionCheckpointer(model, place)
        peer.add_checkpointable("optimizer", optimizer)
        ours, theirs = in_turns(
            {
                "ours": lambda: store.write("model_0000000", state()),
                "DetectionCheckpointer": lambda: peer.save("theirs"),
            },
            repetitions,
        )
        sizes = {
            name: (Path(place) / f"{file}.pth").stat().st_size
            for name, file in (("ours", "model_0000000"), ("DetectionCheckpointer", "theirs"))
        }
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    every = sum(p.numel() for p in model.parameters())
    return Result(
        "checkpoint",
        f"{config}: {trained:,} of {every:,} parameters are trained; ours is synced to the disk "
        "and has a checksum, Detectron2's has neither",
        [ours, theirs],
        [ratio(ours, theirs)],
        {f"size of {name}": f"{size / 1e6:.1f} MB" for name, size in sizes.items()},
    )
