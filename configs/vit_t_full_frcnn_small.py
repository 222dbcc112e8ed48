"""Full fine-tuning, to compare with vit_t_sora_frcnn_small.py."""

from .common.adaptation.full import adaptation, hooks
from .vit_t_sora_frcnn_small import (
    backbone,
    benchmark,
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

optimizer.params.rates.backbone_bias.lr = 1e-4  # as its weights
train.output_dir = "output/vit_t_full_frcnn_small"
