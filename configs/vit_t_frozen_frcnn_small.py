"""A frozen backbone, to compare with vit_t_sora_frcnn_small.py."""

from .common.adaptation.frozen import adaptation, hooks
from .vit_t_sora_frcnn_small import (
    backbone,
    benchmark,
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

train.output_dir = "output/vit_t_frozen_frcnn_small"
