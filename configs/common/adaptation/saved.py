"""Go on from an adapter file, or score with it: adaptation.file=adapter.safetensors."""

from detectron2.config import LazyCall as L

from sora_det.adapt import Saved

adaptation = L(Saved)(file="")
hooks = dict()
