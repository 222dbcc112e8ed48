from detectron2.config import LazyCall as L
from torch.optim import AdamW

from sora_det.engine.optim import param_groups

optimizer = L(AdamW)(
    params=L(param_groups)(
        model=None,  # filled in by fit()
        rates=dict(
            adapter=dict(lr=1e-4, weight_decay=0.01),
            backbone_bias=dict(lr=1e-4, weight_decay=0.01),
            backbone=dict(lr=1e-4, weight_decay=0.01),
            no_decay=dict(lr=2e-4, weight_decay=0.0),
            head=dict(lr=2e-4, weight_decay=0.05),
        ),
        trunk=["backbone.net", "backbone.bottom_up"],
        no_decay=[],
    ),
    lr=2e-4,
)
