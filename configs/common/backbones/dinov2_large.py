from detectron2.config import LazyCall as L

from sora_det.backbones import ViTPyramid, vit

backbone = L(ViTPyramid)(
    net=L(vit)(
        name="vit_large_patch14_dinov2",
        weights="",  # the official .pth or timm's .safetensors
        pretrained=False,
        random_init=False,
        patch_size=16,
        img_size=1024,
        recompute_blocks=False,  # in the backward pass: less memory, more time
        compile_blocks=False,  # with torch.compile
    ),
    out_channels=256,
    blocks=None,
    pixel_mean=[123.675, 116.28, 103.53],
    pixel_std=[58.395, 57.12, 57.375],
)
