"""Faster R-CNN with ResNet-101, the baseline in the field's tables, trained by SGD."""

from detectron2.config import LazyCall as L
from torch.optim import SGD

from .common.adaptation.full import adaptation, hooks
from .common.backbones.resnet101 import backbone
from .common.benchmarks.diverse_weather import benchmark, dataloader
from .common.heads.faster_rcnn import model
from .common.optim import optimizer
from .common.schedule import lr_multiplier
from .common.train import train

optimizer = L(SGD)(params=optimizer.params, lr=0.01, momentum=0.9)
optimizer.params.rates.adapter.update(lr=0.01, weight_decay=1e-4)
optimizer.params.rates.backbone_bias.update(lr=0.01, weight_decay=1e-4)
optimizer.params.rates.backbone.update(lr=0.01, weight_decay=1e-4)
optimizer.params.rates.no_decay.update(lr=0.01, weight_decay=1e-4)
optimizer.params.rates.head.update(lr=0.01, weight_decay=1e-4)
train.output_dir = "output/r101_frcnn_weather"
