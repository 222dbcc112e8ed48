"""Detectron2's ResNet with a feature pyramid, the baseline backbone, with local weights."""

import re
from collections.abc import Mapping, Sequence

from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from torch import Tensor

from .weights import describe_file, load_strictly, read_state

DEPTHS = (18, 34, 50, 101, 152)
STAGES = ("res2", "res3", "res4", "res5")
PIXEL_MEAN, PIXEL_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
HEADS = ("fc.",)


def resnet_fpn(
    depth: int = 101,
    *,
    weights: str = "",
    random_init: bool = False,
    pixel_mean: Sequence[float] = PIXEL_MEAN,
    pixel_std: Sequence[float] = PIXEL_STD,
    freeze_at: int = 2,
    out_channels: int = 256,
) -> FPN:
    """Build Detectron2's ResNet and FPN with ImageNet weights of torchvision or timm.

    Blocks have their stride in the 3 x 3 convolution, as those weights want it. Batch norms are
    frozen; with `random_init` they are live and no stage is frozen, as neither would train.

    Args:
        depth: 18, 34, 50, 101 or 152.
        weights: local .pth or .safetensors file with the names of torchvision's ResNet.
        random_init: start untrained; exactly one of this and `weights` is needed.
        pixel_mean: of RGB in 0..255, as the weights expect.
        pixel_std: likewise.
        freeze_at: stages to freeze, counting the stem as the first; 0 freezes none.
        out_channels: of every level.

    Returns:
        The FPN with maps p2 ... p6 at strides 4 to 64, the ResNet as `bottom_up`, and
        `pixel_mean`, `pixel_std`, `weights_source` and `random_init` added.

    Raises:
        ValueError: another depth, no or two sources of weights, or a file that does not fit.
        FileNotFoundError: `weights` does not exist.
    """
    if depth not in DEPTHS:
        raise ValueError(f"depth must be one of {DEPTHS}, got {depth}")
    if bool(weights) == random_init:
        raise ValueError(
            f"say where the weights of ResNet-{depth} come from, with exactly one of "
            "weights=<local file> and random_init=True (untrained)"
        )
    norm = "BN" if random_init else "FrozenBN"
    options = {"norm": norm} if depth < 50 else {"norm": norm, "stride_in_1x1": False}
    net = ResNet(
        BasicStem(in_channels=3, out_channels=64, norm=norm),
        ResNet.make_default_stages(depth, **options),
        out_features=list(STAGES),
    )
    source = "random initialisation"
    if weights:
        source = describe_file(weights)
        load_strictly(net, to_detectron2(read_state(weights)), source=source, ignore=HEADS)
        net.freeze(freeze_at)
    fpn = FPN(
        bottom_up=net,
        in_features=list(STAGES),
        out_channels=out_channels,
        top_block=LastLevelMaxPool(),
    )
    fpn.pixel_mean, fpn.pixel_std = tuple(pixel_mean), tuple(pixel_std)
    fpn.weights_source, fpn.random_init = source, random_init
    return fpn


def to_detectron2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of a torchvision or timm ResNet the names that Detectron2 gives them."""
    renamed = {}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        name = re.sub(r"^(conv1|bn1)\.", r"stem.\1.", name)
        name = re.sub(r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}.", name)
        name = re.sub(r"(^|\.)bn(\d)\.", r"\1conv\2.norm.", name)
        name = name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
        renamed[name] = value
    return renamed
