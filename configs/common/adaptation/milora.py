"""SoRA's start, and a constant weight decay."""

from sora_det.adapt import MiLoRA

from .sora import adaptation

adaptation._target_ = MiLoRA
hooks = dict()
