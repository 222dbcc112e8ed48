"""Full fine-tuning, to compare with toy_sora_frcnn.py."""

from .common.adaptation.full import adaptation, hooks
from .toy_sora_frcnn import (
    backbone,
    benchmark,
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

# What projects/evidence/studies/toy_methods.yaml has found on held-out clear scenes, rounded.
optimizer.params.rates.backbone.lr = 1e-4
optimizer.params.rates.backbone_bias.lr = 1e-4
train.output_dir = "output/toy_full_frcnn"
