from .dinov2_large import backbone

backbone.net.name = "vit_base_patch14_dinov2"
