from .toy_vit import backbone

# Pretrained on drawn scenes in all weathers without labels: projects/toy_foundation.
backbone.net.update(weights="toy_foundation", random_init=False, depth=6)
