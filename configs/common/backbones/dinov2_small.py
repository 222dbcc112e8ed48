from .dinov2_large import backbone

backbone.net.name = "vit_small_patch14_dinov2"
