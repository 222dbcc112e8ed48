from detectron2.config import LazyCall as L

from sora_det.adapt import LoRA

adaptation = L(LoRA)(
    rank=16, alpha=None, start_block=None, targets=None, train_bias=True, ramp=None
)
hooks = dict()
