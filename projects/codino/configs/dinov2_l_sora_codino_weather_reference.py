"""The same as the published code runs it, faults included; see the README for the list."""

from ....configs.common.adaptation.sora import adaptation, hooks
from ....configs.common.backbones.dinov2_large import backbone
from ....configs.common.benchmarks.diverse_weather import benchmark, dataloader
from ....configs.common.optim import optimizer
from ....configs.common.schedule import lr_multiplier
from ....configs.common.train import train
from .common.codino import model

adaptation.start = "official"
hooks.anneal.roles = None
model.reference_compat = True
optimizer.params.no_decay = ["query_embed", "level_embed"]
train.output_dir = "output/dinov2_l_sora_codino_weather_reference"
