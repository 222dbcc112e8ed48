"""A small untrained ViT under a small Co-DINO on drawn scenes, minutes on two cores."""

from ....configs.common.adaptation.sora import adaptation, hooks
from ....configs.common.backbones.toy_vit import backbone
from ....configs.common.benchmarks.toy_weather import benchmark
from ....configs.common.data.resize_192 import dataloader
from ....configs.common.optim import optimizer
from ....configs.common.schedule import lr_multiplier
from ....configs.common.train import train
from .common.codino import model

# As the quickstart: nothing pretrained is worth keeping.
adaptation.start_block = 0
adaptation.rank = 64
optimizer.params.rates.adapter.lr = 1e-3
optimizer.params.rates.backbone_bias.lr = 1e-3
optimizer.params.rates.backbone.lr = 1e-3
optimizer.params.rates.no_decay.lr = 1e-3
optimizer.params.rates.head.lr = 1e-3
optimizer.params.no_decay = ["query_embed", "level_embed"]
# Four maps, strides 8 to 64, of 765 cells together; and one of stride 128 for auxiliary heads.
model.backbone.levels = ["p3", "p4", "p5", "p6"]
model.in_features = ["p3", "p4", "p5", "p6"]
model.memory_names = ["m3", "m4", "m5", "m6", "m7"]
model.head.queries = 100
model.head.levels = 4
model.head.encoder_layers = 1
model.head.decoder_layers = 3
model.head.hidden = 256
model.head.checkpointed = 0
model.head.denoising.queries = 50
model.auxiliary[0].rpn.in_features = ["m3", "m4", "m5", "m6", "m7"]
model.auxiliary[0].rpn.head.num_anchors = 3
model.auxiliary[0].rpn.anchor_generator.sizes = [[16], [32], [64], [96], [160]]
model.auxiliary[0].rpn.anchor_generator.strides = [8, 16, 32, 64, 128]
model.auxiliary[0].rpn.loss_weight = dict(loss_rpn_cls=3.0, loss_rpn_loc=3.0)  # one per layer
model.auxiliary[0].rpn.pre_nms_topk = [300, 300]
model.auxiliary[0].rpn.post_nms_topk = [100, 100]
model.auxiliary[0].roi_heads.batch_size_per_image = 64
model.auxiliary[0].roi_heads.box_in_features = ["m3", "m4", "m5", "m6"]
model.auxiliary[0].roi_heads.box_pooler.scales = [1 / 8, 1 / 16, 1 / 32, 1 / 64]
model.auxiliary[0].roi_heads.box_pooler.sampling_ratio = 2
model.auxiliary[0].roi_heads.box_pooler.canonical_level = 3
model.auxiliary[0].roi_heads.box_head.fc_dims = [256, 256]
model.auxiliary[0].roi_heads.box_predictor.loss_weight = dict(loss_cls=3.0, loss_box_reg=30.0)
model.auxiliary[1].head.weights = [3.0, 6.0, 3.0]
model.auxiliary[1].head.strides = [8, 16, 32, 64, 128]
model.auxiliary[1].head.scale = 3.0
model.auxiliary[1].levels = ["m3", "m4", "m5", "m6", "m7"]
dataloader.train.total_batch_size = 2  # queries need many steps more than large ones
train.max_iter = 1200
train.eval_period = 0
train.checkpoint_period = 1200
train.output_dir = "output/toy_sora_codino"
