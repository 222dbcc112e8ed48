from detectron2.config import LazyCall as L

from sora_det.adapt import Frozen

adaptation = L(Frozen)()
hooks = dict()
