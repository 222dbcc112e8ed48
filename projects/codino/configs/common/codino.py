from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    StandardROIHeads,
)

from projects.codino import ATSSAuxiliary, CoDINO, Denoising, QueryHead, RoIAuxiliary
from projects.codino.atss import ATSSHead
from sora_det.backbones import adapted
from sora_det.data import class_count

model = L(CoDINO)(
    backbone=L(adapted)(net="${backbone}", recipe="${adaptation}"),
    head=L(QueryHead)(
        num_classes=L(class_count)(benchmark="${benchmark}"),
        channels="${backbone.out_channels}",
        queries=900,
        levels=5,
        encoder_layers=6,
        decoder_layers=6,
        heads=8,
        points=4,
        hidden=2048,
        temperature=20.0,
        two_stage=True,
        look_forward_twice=True,
        denoising=L(Denoising)(queries=100, label_noise=0.5, box_noise=1.0),
        auxiliary=2,
        checkpointed=6,  # encoder layers that save memory for time
        reference_compat="${model.reference_compat}",
    ),
    in_features=["p2", "p3", "p4", "p5", "p6"],
    memory_names=["m2", "m3", "m4", "m5", "m6", "m7"],
    auxiliary=[
        L(RoIAuxiliary)(
            rpn=L(RPN)(
                in_features=["m2", "m3", "m4", "m5", "m6", "m7"],
                head=L(StandardRPNHead)(in_channels="${backbone.out_channels}", num_anchors=9),
                anchor_generator=L(DefaultAnchorGenerator)(
                    sizes=[
                        [4 * _stride * 2 ** (_octave / 3) for _octave in range(3)]
                        for _stride in (4, 8, 16, 32, 64, 128)
                    ],
                    aspect_ratios=[0.5, 1.0, 2.0],
                    strides=[4, 8, 16, 32, 64, 128],
                    offset=0.0,
                ),
                anchor_matcher=L(Matcher)(
                    thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True
                ),
                box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
                batch_size_per_image=256,
                positive_fraction=0.5,
                pre_nms_topk=[4000, 1000],
                post_nms_topk=[1000, 1000],
                nms_thresh=0.7,
                loss_weight=dict(loss_rpn_cls=12.0, loss_rpn_loc=12.0),
            ),
            roi_heads=L(StandardROIHeads)(
                num_classes="${model.head.num_classes}",
                batch_size_per_image=512,
                positive_fraction=0.25,
                proposal_matcher=L(Matcher)(
                    thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False
                ),
                box_in_features=["m2", "m3", "m4", "m5", "m6"],
                box_pooler=L(ROIPooler)(
                    output_size=7,
                    scales=[1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64],
                    sampling_ratio=0,
                    pooler_type="ROIAlignV2",
                    canonical_box_size=56,  # boxes below 112 pixels come from the finest map
                    canonical_level=2,
                ),
                box_head=L(FastRCNNConvFCHead)(
                    input_shape=L(ShapeSpec)(
                        channels="${backbone.out_channels}", height=7, width=7
                    ),
                    conv_dims=[],
                    fc_dims=[1024, 1024],
                ),
                box_predictor=L(FastRCNNOutputLayers)(
                    input_shape=L(ShapeSpec)(
                        channels="${model.auxiliary.0.roi_heads.box_head.fc_dims.1}"
                    ),
                    box2box_transform=L(Box2BoxTransform)(weights=[10, 10, 5, 5]),
                    num_classes="${model.head.num_classes}",
                    box_reg_loss_type="giou",
                    loss_weight=dict(loss_cls=12.0, loss_box_reg=120.0),
                ),
            ),
        ),
        L(ATSSAuxiliary)(
            head=L(ATSSHead)(
                channels="${backbone.out_channels}",
                num_classes="${model.head.num_classes}",
                strides=[4, 8, 16, 32, 64, 128],
                scale=8.0,
                nearest=9,
                weights=[12.0, 24.0, 12.0],
            ),
            levels=["m2", "m3", "m4", "m5", "m6", "m7"],
        ),
    ],
    pixel_mean="${backbone.pixel_mean}",
    pixel_std="${backbone.pixel_std}",
    input_format="RGB",
    reference_compat=False,
    test_topk_per_image=300,
    test_score_thresh=1e-3,
    soft_nms_iou=0.8,
)
