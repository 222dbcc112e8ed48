from detectron2.config import LazyCall as L

from sora_det.backbones import ViTPyramid, vit

# An untrained ViT of 1.8 million parameters with patches of 8 pixels, for the drawn scenes.
backbone = L(ViTPyramid)(
    net=L(vit)(
        name="vit_tiny_patch16_224",
        weights="",
        pretrained=False,
        random_init=True,
        patch_size=8,
        img_size=192,
        recompute_blocks=False,  # in the backward pass: less memory, more time
        compile_blocks=False,  # with torch.compile
        depth=4,
        embed_dim=192,
        num_heads=3,
    ),
    out_channels=96,
    blocks=None,
    pixel_mean=[127.5, 127.5, 127.5],
    pixel_std=[127.5, 127.5, 127.5],
)
