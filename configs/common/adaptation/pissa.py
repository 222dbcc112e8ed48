"""The principal components in place of the minor ones, and a constant weight decay."""

from sora_det.adapt import PiSSA

from .sora import adaptation

adaptation._target_ = PiSSA
hooks = dict()
