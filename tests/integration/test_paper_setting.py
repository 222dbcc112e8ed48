"""The paper's ViT-L at 1024 x 1024 pixels takes one training step on a CPU: minutes and 12 GB."""

import logging
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances

from sora_det.adapt import trainable
from sora_det.engine.config import load_config
from sora_det.engine.trainer import Trainer

CONFIG = Path(__file__).parents[2] / "configs" / "dinov2_l_sora_frcnn_weather.py"

logger = logging.getLogger(__name__)


def synthetic(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    instances = Instances((1024, 1024))
    corner = torch.rand(6, 2, generator=generator) * 700
    size = 40 + torch.rand(6, 2, generator=generator) * 280
    instances.gt_boxes = Boxes(torch.cat([corner, corner + size], dim=1))
    instances.gt_classes = torch.arange(6)
    image = torch.randint(0, 256, (3, 1024, 1024), generator=generator, dtype=torch.uint8)
    return {"image": image, "instances": instances}


@pytest.mark.slow
def test_one_step() -> None:
    torch.manual_seed(0)
    cfg = load_config(CONFIG, ["backbone.net.random_init=True"])
    start = time.perf_counter()
    model = instantiate(cfg.model)
    built = time.perf_counter() - start
    counts = trainable(model.backbone.net)
    assert counts.layers == 16 * 4
    assert (counts.adapter, counts.bias, counts.other) == (4_718_592, 147_456, 0)
    assert counts.trained == 4_866_048

    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    batch = [synthetic(0), synthetic(1)]
    trainer = Trainer(model, lambda start: [batch], optimizer, clip_norm=35.0)
    before = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    gradients: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(
                lambda p, name=name: gradients.update({name: p.grad.norm()})
            )
    start = time.perf_counter()
    trainer.train(0, 1)
    seconds = time.perf_counter() - start

    assert trainer.storage.latest()["total_loss"][0] > 0  # the trainer rejects what is not finite
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == set(gradients)
    assert all(torch.isfinite(norm) and norm > 0 for norm in gradients.values())
    for name, parameter in model.named_parameters():
        if name in before:
            assert torch.equal(parameter, before[name]), name
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    logger.warning("built in %.0f s, a step took %.0f s, peak %.1f GB", built, seconds, peak)
