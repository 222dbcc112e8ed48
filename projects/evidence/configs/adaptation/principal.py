"""SoRA, annealing included, with the principal components in place of the minor ones."""

from sora_det.adapt import PiSSA

from .....configs.common.adaptation.sora import adaptation, hooks

adaptation._target_ = PiSSA
