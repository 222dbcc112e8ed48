"""The detector that SoRA's authors published; scripts/convert_soma_checkpoint.py makes its files.

Run it with --eval-only, backbone.net.weights, adaptation.file and train.init_checkpoint.
"""

from ....configs.common.adaptation.saved import adaptation, hooks
from ....configs.common.backbones.dinov2_large import backbone
from ....configs.common.benchmarks.diverse_weather import benchmark, dataloader
from ....configs.common.optim import optimizer
from ....configs.common.schedule import lr_multiplier
from ....configs.common.train import train
from .common.codino import model

model.reference_compat = True  # as it was trained
optimizer.params.no_decay = ["query_embed", "level_embed"]
train.output_dir = "output/dinov2_l_published_codino_weather"
