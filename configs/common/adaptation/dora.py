from sora_det.adapt import DoRA

from .lora import adaptation, hooks

adaptation._target_ = DoRA
