from sora_det.adapt import RsLoRA

from .lora import adaptation, hooks

adaptation._target_ = RsLoRA
