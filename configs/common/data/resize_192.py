from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from sora_det.data import test_loader, train_loader

# For the drawn scenes: the longer side becomes 192 pixels.
dataloader = dict(
    train=L(train_loader)(
        benchmark="${benchmark}",
        augmentations=[
            L(T.ResizeShortestEdge)(short_edge_length=192, max_size=192),
            L(T.RandomFlip)(prob=0.5),
        ],
        total_batch_size=4,
        num_workers=2,
        seed="${train.seed}",
    ),
    test=L(test_loader)(
        dataset_name="",  # filled in for every domain
        augmentations=[L(T.ResizeShortestEdge)(short_edge_length=192, max_size=192)],
        num_workers=2,
    ),
)
