from sora_det.backbones import SimplePyramid

from .dinov2_base import backbone

# ViTDet's pyramid, from the last block alone.
backbone.update(_target_=SimplePyramid)
del backbone.blocks
