"""The toy foundation backbone at 160 pixels, for two minutes on one core."""

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

SIDE = 160
backbone.net.img_size = SIDE
dataloader.train.augmentations[0].update(short_edge_length=SIDE, max_size=SIDE)
dataloader.test.augmentations[0].update(short_edge_length=SIDE, max_size=SIDE)
dataloader.train.num_workers = 0
dataloader.test.num_workers = 0
model.proposal_generator.anchor_generator.sizes = [[10], [20], [40], [80], [134]]
model.proposal_generator.pre_nms_topk = [300, 150]
model.proposal_generator.post_nms_topk = [100, 50]
model.roi_heads.batch_size_per_image = 64
train.max_iter = 350
train.checkpoint_period = 100
train.evaluation.replicates = 0  # a study draws its own
train.output_dir = "output/toy_evidence"
