from detectron2.config import LazyCall as L

from sora_det.adapt import Full

adaptation = L(Full)()
hooks = dict()
