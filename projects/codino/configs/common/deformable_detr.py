from .dino import model

# Deformable DETR with box refinement: queries learn where they start, no denoising.
model.head.two_stage = False
model.head.look_forward_twice = False
model.head.denoising = None
