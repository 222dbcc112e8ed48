from .codino import model

# DINO: without auxiliary heads, and without any suppression.
model.auxiliary = []
model.head.auxiliary = 0
model.soft_nms_iou = None
