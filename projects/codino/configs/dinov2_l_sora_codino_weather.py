"""The paper's detector: SoRA on DINOv2-L under Co-DINO, 1024 pixels, 40,000 iterations.

Images are not padded to a square beforehand, so that padding is masked.
"""

from ....configs.common.adaptation.sora import adaptation, hooks
from ....configs.common.backbones.dinov2_large import backbone
from ....configs.common.benchmarks.diverse_weather import benchmark, dataloader
from ....configs.common.optim import optimizer
from ....configs.common.schedule import lr_multiplier
from ....configs.common.train import train
from .common.codino import model

del dataloader.train.augmentations[3]
del dataloader.test.augmentations[1]
optimizer.params.no_decay = ["query_embed", "level_embed"]
train.output_dir = "output/dinov2_l_sora_codino_weather"
