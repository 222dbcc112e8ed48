from detectron2.config import LazyCall as L

from sora_det.adapt import BitFit

adaptation = L(BitFit)(start_block=None)
hooks = dict()
