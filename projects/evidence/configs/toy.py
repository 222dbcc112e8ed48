"""The toy foundation backbone at 128 pixels: a search run takes 110 seconds on one core."""

from ....configs.toy_sora_frcnn import (
    adaptation,
    backbone,
    benchmark,
    dataloader,
    hooks,
    lr_multiplier,
    model,
    optimizer,
    train,
)

SIDE = 128  # a multiple of 64, to which images are padded
backbone.net.img_size = SIDE
dataloader.train.augmentations[0].update(short_edge_length=SIDE, max_size=SIDE)
dataloader.test.augmentations[0].update(short_edge_length=SIDE, max_size=SIDE)
dataloader.train.num_workers = 0
dataloader.test.num_workers = 0
model.proposal_generator.anchor_generator.sizes = [[8], [16], [32], [64], [108]]
model.proposal_generator.pre_nms_topk = [300, 150]
model.proposal_generator.post_nms_topk = [100, 50]
model.roi_heads.batch_size_per_image = 64
train.max_iter = 500
train.checkpoint_period = 100
train.evaluation.replicates = 0  # a study draws its own
train.output_dir = "output/toy_evidence"
