"""Full fine-tuning, to compare with dinov2_l_sora_frcnn_weather.py."""

from .common.adaptation.full import adaptation, hooks
from .common.backbones.dinov2_large import backbone
from .common.benchmarks.diverse_weather import benchmark, dataloader
from .common.heads.faster_rcnn import model
from .common.optim import optimizer
from .common.schedule import lr_multiplier
from .common.train import train

train.output_dir = "output/dinov2_l_full_frcnn_weather"
