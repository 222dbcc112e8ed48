from detectron2.config import LazyCall as L

from sora_det.backbones import resnet_fpn

backbone = L(resnet_fpn)(
    depth=101,
    weights="",  # torchvision's .pth or timm's .safetensors, trained on ImageNet
    random_init=False,
    freeze_at=2,
    out_channels=256,
    pixel_mean=[123.675, 116.28, 103.53],
    pixel_std=[58.395, 57.12, 57.375],
)
