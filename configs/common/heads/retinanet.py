from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead

from sora_det.backbones import adapted
from sora_det.data import class_count

model = L(RetinaNet)(
    backbone=L(adapted)(net="${backbone}", recipe="${adaptation}", levels=["p3", "p4", "p5", "p6"]),
    head=L(RetinaNetHead)(
        # One per level: Detectron2 0.6 and later count them.
        input_shape=[L(ShapeSpec)(channels="${backbone.out_channels}") for _ in range(4)],
        num_classes="${model.num_classes}",
        conv_dims=[256, 256, 256, 256],
        prior_prob=0.01,
        num_anchors=9,
    ),
    anchor_generator=L(DefaultAnchorGenerator)(
        # The maps end at stride 64, so that the anchors grow a little faster than the strides.
        sizes=[[_s, _s * 2 ** (1 / 3), _s * 2 ** (2 / 3)] for _s in (40, 80, 160, 320)],
        aspect_ratios=[0.5, 1.0, 2.0],
        strides=[8, 16, 32, 64],
        offset=0.0,
    ),
    box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
    anchor_matcher=L(Matcher)(
        thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=True
    ),
    num_classes=L(class_count)(benchmark="${benchmark}"),
    head_in_features="${model.backbone.levels}",
    focal_loss_alpha=0.25,
    focal_loss_gamma=2.0,
    pixel_mean="${backbone.pixel_mean}",
    pixel_std="${backbone.pixel_std}",
    input_format="RGB",
)
