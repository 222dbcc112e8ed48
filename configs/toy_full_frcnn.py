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

train.output_dir = "output/toy_full_frcnn"
