"""What each head divides its losses by in one process, as docs/distributed.md states it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from sora_det.engine.train import build
from tests.tools.tiny_heads import HEADS, use_head
from tests.tools.tiny_run import SIDE, tiny

Losses = dict[str, float]


def detector(toy: Path, tmp_path: Path, head: str) -> nn.Module:
    """Build one that draws nothing: every anchor and every proposal counts in its losses."""
    cfg = use_head(tiny(toy, tmp_path), head)
    if head != "retinanet":
        for part in (cfg.model.proposal_generator, cfg.model.roi_heads):
            part.batch_size_per_image = 4096
            part.positive_fraction = 0.5
    _, model = build(cfg)
    with torch.no_grad():  # else every box of an untrained detector is the anchor itself
        for name, parameter in model.named_parameters():
            if "bbox_pred" in name or "anchor_deltas" in name:
                parameter.normal_(std=0.05)
    return model.train()


def image(boxes: Sequence[Sequence[float]], seed: int) -> dict[str, Any]:
    instances = Instances((SIDE, SIDE))
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.zeros(len(boxes), dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return {"image": pixels, "instances": instances}


@pytest.fixture
def batch() -> list[dict[str, Any]]:
    """Four images; those of the first half have more objects than those of the second."""
    many = [[4, 4, 36, 44], [20, 10, 60, 60], [30, 30, 44, 50]]
    return [image(many, 0), image(many, 1), image([[8, 8, 40, 40]], 2), image([], 3)]


def run(model: nn.Module, batch: list[dict[str, Any]]) -> tuple[Losses, dict[str, float]]:
    with EventStorage() as storage:
        losses = {name: loss.item() for name, loss in model(batch).items()}
    return losses, {name: value for name, (value, _) in storage.latest().items()}


def proposals(latest: dict[str, float], images: int, stage: str) -> float:
    """Return how many proposals a stage has counted; Detectron2 notes their mean over images."""
    return images * sum(latest[f"{stage}roi_head/num_{kind}_samples"] for kind in ("fg", "bg"))


@pytest.mark.parametrize("head", ["faster_rcnn", "cascade_rcnn"])
def test_losses_of_two_stage_heads(
    toy: Path, tmp_path: Path, batch: list[dict[str, Any]], head: str
) -> None:
    model = detector(toy, tmp_path, head)
    whole, counts = run(model, batch)
    halves = [run(model, part) for part in (batch[:2], batch[2:])]
    one = head == "faster_rcnn"
    stages = {"": ""} if one else {"": "_stage0", "stage1/": "_stage1", "stage2/": "_stage2"}
    for stage, suffix in stages.items():
        total = proposals(counts, 4, stage)
        parts = [proposals(counted, 2, stage) for _, counted in halves]
        assert total == pytest.approx(sum(parts))
        for name in (f"loss_cls{suffix}", f"loss_box_reg{suffix}"):
            summed = sum(n * losses[name] for n, (losses, _) in zip(parts, halves, strict=True))
            assert whole[name] * total == pytest.approx(summed, rel=1e-4)
            assert whole[name] > 0
    for name in ("loss_rpn_cls", "loss_rpn_loc"):  # by number of images: their plain mean
        assert whole[name] == pytest.approx(sum(losses[name] for losses, _ in halves) / 2, rel=1e-4)
        assert whole[name] > 0


def test_losses_of_retinanet(toy: Path, tmp_path: Path, batch: list[dict[str, Any]]) -> None:
    model = detector(toy, tmp_path, "retinanet")
    found = []
    for part in (batch, batch[:2], batch[2:]):
        model.loss_normalizer = 100.0  # where a process begins
        losses, counts = run(model, part)
        matched = max(counts["num_pos_anchors"] * len(part), 1)
        assert model.loss_normalizer == pytest.approx(0.9 * 100 + 0.1 * matched)
        found.append({name: value * model.loss_normalizer for name, value in losses.items()})
    whole, *halves = found
    assert whole == pytest.approx({name: sum(h[name] for h in halves) for name in whole}, rel=1e-4)


@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize("head", HEADS)
def test_every_trained_parameter_has_a_gradient(
    toy: Path, tmp_path: Path, batch: list[dict[str, Any]], head: str, objects: bool
) -> None:
    """Otherwise DistributedDataParallel would need find_unused_parameters."""
    model = detector(toy, tmp_path, head)
    with EventStorage():
        sum(model(batch[:1] if objects else batch[3:]).values()).backward()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle
