from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from sora_det.data import PadTo, PhotoMetricDistortion, test_loader, train_loader

# The paper's: scale and crop to 1024 x 1024, pad with grey, then change the colours.
dataloader = dict(
    train=L(train_loader)(
        benchmark="${benchmark}",
        augmentations=[
            L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=1024, target_width=1024),
            L(T.RandomCrop)(crop_type="absolute", crop_size=[1024, 1024]),
            L(T.RandomFlip)(prob=0.5),
            L(PadTo)(size=1024, value=114.0),
            L(PhotoMetricDistortion)(),
        ],
        total_batch_size=8,
        num_workers=4,
        seed="${train.seed}",
    ),
    test=L(test_loader)(
        dataset_name="",  # filled in for every domain
        augmentations=[
            L(T.ResizeShortestEdge)(short_edge_length=1024, max_size=1024),
            L(PadTo)(size=1024, value=114.0),
        ],
        num_workers=4,
    ),
)
