"""The toy config shrunk until a training run takes a second or two."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from sora_det.engine.config import load_config

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "toy_sora_frcnn.py"
SIDE = 64  # of an image, pixels

OVERRIDES = (
    "backbone.net.weights=",
    "backbone.net.random_init=true",
    f"backbone.net.img_size={SIDE}",
    "backbone.net.patch_size=16",
    "backbone.net.depth=6",
    "backbone.net.embed_dim=48",
    "backbone.net.num_heads=3",
    "backbone.out_channels=16",
    "adaptation.rank=2",
    "adaptation.start_block=0",
    "model.proposal_generator.anchor_generator.sizes=[[8],[16],[32],[48],[64]]",
    "model.proposal_generator.batch_size_per_image=2048",  # all anchors: every map has a gradient
    "model.proposal_generator.pre_nms_topk=[64,64]",
    "model.proposal_generator.post_nms_topk=[32,32]",
    "model.roi_heads.batch_size_per_image=32",
    "model.roi_heads.box_pooler.sampling_ratio=1",
    "model.roi_heads.box_head.fc_dims=[32,32]",
    f"dataloader.train.augmentations.0.short_edge_length={SIDE}",
    f"dataloader.train.augmentations.0.max_size={SIDE}",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    f"dataloader.test.augmentations.0.short_edge_length={SIDE}",
    f"dataloader.test.augmentations.0.max_size={SIDE}",
    "dataloader.test.num_workers=0",
    "train.device=cpu",
    "train.check_images=false",  # which keeps a cache in the user's home
    "train.eval_period=0",
    "train.log_period=1",
    "train.evaluation.replicates=20",  # a thousand of the bootstrap take longer than the rest
)

MANY_BOXES = (  # so that some of a hardly trained detector's find an object
    "model.proposal_generator.pre_nms_topk=[64,600]",
    "model.proposal_generator.post_nms_topk=[32,300]",
    "model.roi_heads.box_predictor.test_topk_per_image=400",
    "model.roi_heads.box_predictor.test_score_thresh=0.0",
)


def overrides(benchmark: Path, output: Path, *more: str) -> list[str]:
    """Return the command line's `key=value` arguments for a tiny run."""
    return [*OVERRIDES, f"benchmark.file={benchmark}", f"train.output_dir={output}", *more]


def tiny(benchmark: Path, output: Path, *more: str) -> DictConfig:
    """Return the config of a tiny run, and seed what the training scripts seed."""
    torch.manual_seed(0)
    return load_config(CONFIG, overrides(benchmark, output, *more))


def tensors(model: torch.nn.Module) -> dict[str, Any]:
    """Copy every parameter and buffer."""
    return {name: value.clone() for name, value in model.state_dict().items()}
