"""The quickstart's run: a small untrained ViT on drawn scenes, minutes on two cores."""

from .common.adaptation.sora import adaptation, hooks
from .common.backbones.toy_vit import backbone
from .common.benchmarks.toy_weather import benchmark
from .common.data.resize_192 import dataloader
from .common.heads.faster_rcnn import model
from .common.optim import optimizer
from .common.schedule import lr_multiplier
from .common.train import train

train.output_dir = "output/toy_sora_frcnn"
