"""The paper's setting with DINOv2-B."""

from .common.adaptation.sora import adaptation, hooks
from .common.backbones.dinov2_base import backbone
from .common.benchmarks.diverse_weather import benchmark, dataloader
from .common.heads.faster_rcnn import model
from .common.optim import optimizer
from .common.schedule import lr_multiplier
from .common.train import train

train.output_dir = "output/dinov2_b_sora_frcnn_weather"
