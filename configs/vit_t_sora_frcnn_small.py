"""For a user's own folders and for a CPU: ViT-Tiny at 256 pixels, 600 iterations of 4 images."""

from .common.adaptation.sora import adaptation, hooks
from .common.backbones.vit_tiny import backbone
from .common.benchmarks.carla_weather import benchmark
from .common.data.resize_256 import dataloader
from .common.heads.faster_rcnn import model
from .common.optim import optimizer
from .common.schedule import lr_multiplier
from .common.train import train

adaptation.start_block = 0
optimizer.params.rates.adapter.lr = 5e-4
optimizer.params.rates.backbone_bias.lr = 5e-4
# A detector small enough for two cores, with anchors for the smaller image.
backbone.out_channels = 128
model.proposal_generator.anchor_generator.sizes = [[16], [32], [64], [128], [256]]
model.proposal_generator.pre_nms_topk = [1000, 500]
model.proposal_generator.post_nms_topk = [500, 200]
model.roi_heads.batch_size_per_image = 128
model.roi_heads.box_pooler.sampling_ratio = 2
model.roi_heads.box_head.fc_dims = [512, 512]
train.max_iter = 600
train.eval_period = 0
train.checkpoint_period = 200
train.output_dir = "output/vit_t_sora_frcnn_small"
