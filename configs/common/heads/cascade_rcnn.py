from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
)

from .faster_rcnn import model

del model.roi_heads.box_head
del model.roi_heads.box_predictor
del model.roi_heads.proposal_matcher
model.roi_heads.update(
    _target_=CascadeROIHeads,
    box_heads=[
        L(FastRCNNConvFCHead)(
            input_shape=L(ShapeSpec)(channels="${backbone.out_channels}", height=7, width=7),
            conv_dims=[],
            fc_dims=[1024, 1024],
        )
        for _ in range(3)
    ],
    box_predictors=[
        L(FastRCNNOutputLayers)(
            input_shape=L(ShapeSpec)(channels=1024),
            test_score_thresh=0.05,
            test_topk_per_image=100,
            box2box_transform=L(Box2BoxTransform)(weights=[_xy, _xy, _wh, _wh]),
            cls_agnostic_bbox_reg=True,
            num_classes="${model.roi_heads.num_classes}",
        )
        for _xy, _wh in [(10, 5), (20, 10), (30, 15)]
    ],
    proposal_matchers=[
        L(Matcher)(thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False),
        L(Matcher)(thresholds=[0.6], labels=[0, 1], allow_low_quality_matches=False),
        L(Matcher)(thresholds=[0.7], labels=[0, 1], allow_low_quality_matches=False),
    ],
)
