from detectron2.config import LazyCall as L

from sora_det.backbones import ViTPyramid, vit

backbone = L(ViTPyramid)(
    net=L(vit)(
        name="vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        weights="",  # timm's .safetensors
        pretrained=False,
        random_init=False,
        patch_size=16,
        img_size=256,
        recompute_blocks=False,  # in the backward pass: less memory, more time
        compile_blocks=False,  # with torch.compile
    ),
    out_channels=256,
    blocks=None,
    pixel_mean=[127.5, 127.5, 127.5],
    pixel_std=[127.5, 127.5, 127.5],
)
