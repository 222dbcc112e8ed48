"""Feature pyramids p2 to p6 (strides 4 to 64) on a plain ViT, as Detectron2 backbones."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.utils import comm
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from tqdm import tqdm

from .timm_vit import block_maps, check_plain
from .weights import TimmViT

logger = logging.getLogger(__name__)

STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ROUNDING = 0.5  # of 255: what published means and deviations differ by without meaning it


class _OnPlainViT(Backbone):
    """What both pyramids share: the ViT, its normalisation, padding, names and strides.

    Attributes:
        net: the timm ViT.
        pixel_mean, pixel_std: of RGB in 0..255, by which images must be normalised.
        weights_source: where the ViT's weights come from, in words; "" if unknown.
        random_init: whether the ViT started untrained.
        levels: the maps that `forward` returns, all by default; see `keep_levels`.
    """

    net: TimmViT

    def __init__(
        self,
        net: TimmViT,
        out_channels: int,
        pixel_mean: Sequence[float] | None,
        pixel_std: Sequence[float] | None,
    ) -> None:
        super().__init__()
        self.net = net
        self.patch = check_plain(net)
        self.out_channels = out_channels
        self.levels = tuple(STRIDES)
        own = getattr(net, "pretrained_cfg", None) or {}
        self.pixel_mean = _pixels(pixel_mean, own.get("mean", IMAGENET_MEAN))
        self.pixel_std = _pixels(pixel_std, own.get("std", IMAGENET_STD))
        self.weights_source: str = getattr(net, "weights_source", "")
        self.random_init: bool = getattr(net, "random_init", False)
        if not self.random_init:
            self._compare_normalisation(own)

    def _compare_normalisation(self, own: Mapping[str, Any]) -> None:
        """Warn where images are not normalised as timm says that the weights need."""
        if "mean" not in own or "std" not in own:
            return
        given = (*self.pixel_mean, *self.pixel_std)
        mean, std = _pixels(None, own["mean"]), _pixels(None, own["std"])
        if any(abs(a - b) > ROUNDING for a, b in zip(given, (*mean, *std), strict=True)):
            logger.warning(
                "images are normalised with pixel_mean=%s and pixel_std=%s, but timm says that the "
                "weights of %s were trained with %s and %s",
                list(self.pixel_mean),
                list(self.pixel_std),
                own.get("architecture", type(self.net).__name__),
                [round(value, 3) for value in mean],
                [round(value, 3) for value in std],
            )

    @property
    def size_divisibility(self) -> int:
        return STRIDES["p6"]

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"size_divisibility": self.size_divisibility}

    def output_shape(self) -> dict[str, ShapeSpec]:
        channels = self.out_channels
        return {name: ShapeSpec(channels=channels, stride=STRIDES[name]) for name in self.levels}

    def _cells(self, images: Tensor, blocks: Sequence[int]) -> tuple[list[Tensor], tuple[int, int]]:
        """Return the maps of `blocks` and the height and width in pixels that a pyramid covers.

        That is the image's, rounded up to 32; what lies outside the image is 0, its mean colour.
        """
        height, width = (_round_up(side, STRIDES["p5"]) for side in images.shape[-2:])
        right = _round_up(width, self.patch) - images.shape[-1]
        bottom = _round_up(height, self.patch) - images.shape[-2]
        padded = F.pad(images, (0, right, 0, bottom)) if right or bottom else images
        return block_maps(self.net, padded, blocks), (height, width)

    def _at_stride(self, cells: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
        """Bring (batch, channel, rows, columns) from the ViT's stride to another, bilinearly."""
        if stride != self.patch:
            cells = F.interpolate(
                cells,
                scale_factor=self.patch / stride,
                mode="bilinear",
                align_corners=False,
                recompute_scale_factor=False,  # the factor, not the rounded size, maps positions
            )
        return cells[..., : size[0] // stride, : size[1] // stride]


class ViTPyramid(_OnPlainViT):
    """The pyramid of the SoRA paper: four blocks, resized and projected, and one level more.

    Block outputs without the final norm go to strides 4, 8, 16 and 32 bilinearly, then through a
    1 x 1 convolution and GroupNorm each; p6 is a 3 x 3 stride-2 convolution with GroupNorm of the
    last block's map at stride 32.

    Args:
        net: a plain ViT of timm, such as `vit(...)` returns. Blocks after the last one used are
            dropped from it.
        out_channels: of every level.
        blocks: four ascending block indices for p2 to p5; None takes the maps after a third, a
            half, two thirds and all of the depth: 7, 11, 15, 23 of 24 and 3, 5, 7, 11 of 12.
        pixel_mean: of RGB in 0..255; None is what timm says of the model's weights. A config gives
            numbers, since the head reads them there.
        pixel_std: likewise.
    """

    def __init__(
        self,
        net: TimmViT,
        *,
        out_channels: int = 256,
        blocks: Sequence[int] | None = None,
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(net, out_channels, pixel_mean, pixel_std)
        self.blocks = _four_blocks(blocks, len(net.blocks))
        if self.blocks[-1] + 1 < len(net.blocks):
            logger.info("dropping the unused blocks after %d", self.blocks[-1])
            net.blocks = net.blocks[: self.blocks[-1] + 1]
        self.neck = ChannelMapper(net.embed_dim, out_channels, levels=len(self.blocks))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalised RGB images (batch, 3, height, width) of any size to p2 ... p6."""
        cells, size = self._cells(images, self.blocks)
        maps = {
            name: self._project(x, mapper, STRIDES[name], size)
            for name, x, mapper in zip(STRIDES, cells, self.neck.convs, strict=False)
            if name in self.levels
        }
        if "p6" in self.levels:
            last = self._at_stride(cells[-1], STRIDES["p5"], size)
            maps["p6"] = self.neck.extra_convs[0](last)
        return maps

    def _project(self, x: Tensor, mapper: Any, stride: int, size: tuple[int, int]) -> Tensor:
        """Resize and project one map. The two commute: the smaller map is projected."""
        if stride < self.patch:
            return mapper.gn(self._at_stride(mapper.conv(x), stride, size))
        return mapper(self._at_stride(x, stride, size))

    def raw_maps(self, images: Tensor) -> list[Tensor]:
        """Return the resized maps before the neck: (batch, embed_dim, ...) at strides 4 to 32."""
        cells, size = self._cells(images, self.blocks)
        strides = list(STRIDES.values())
        return [self._at_stride(x, s, size) for x, s in zip(cells, strides, strict=False)]


class SimplePyramid(_OnPlainViT):
    """ViTDet's simple feature pyramid (arXiv 2203.16527) from the last block, without final norm.

    Args:
        net: a plain ViT of timm; its `embed_dim` must be a multiple of 4. Maps of another stride
            than 16 are brought to 16 bilinearly first.
        out_channels: of every level.
        pixel_mean: of RGB in 0..255; None is what timm says of the model's weights. A config gives
            numbers, since the head reads them there.
        pixel_std: likewise.
    """

    def __init__(
        self,
        net: TimmViT,
        *,
        out_channels: int = 256,
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(net, out_channels, pixel_mean, pixel_std)
        dim = net.embed_dim
        if dim % 4:
            raise ValueError(f"embed_dim must be a multiple of 4, got {dim}")
        half, quarter = dim // 2, dim // 4
        four_times = [_double(dim, half), LayerNorm2d(half), nn.GELU(), _double(half, quarter)]
        self.stages = nn.ModuleList(
            [
                nn.Sequential(*four_times, *_smooth(quarter, out_channels)),
                nn.Sequential(_double(dim, half), *_smooth(half, out_channels)),
                nn.Sequential(*_smooth(dim, out_channels)),
                nn.Sequential(nn.MaxPool2d(2), *_smooth(dim, out_channels)),
            ]
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalised RGB images (batch, 3, height, width) of any size to p2 ... p6."""
        cells, size = self._cells(images, [len(self.net.blocks) - 1])
        x = self._at_stride(cells[0], 16, size)
        needed = {*self.levels} | ({"p5"} if "p6" in self.levels else set())
        stages = zip(STRIDES, self.stages, strict=False)
        maps = {name: stage(x) for name, stage in stages if name in needed}
        if "p6" in self.levels:
            maps["p6"] = F.max_pool2d(maps["p5"], kernel_size=1, stride=2)
        return {name: maps[name] for name in self.levels}


class ConvNorm(nn.Module):
    """A convolution without bias, Xavier-uniform at the start, and GroupNorm."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False
        )
        self.gn = nn.GroupNorm(_groups(out_channels), out_channels)
        nn.init.xavier_uniform_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.gn(self.conv(x))


class ChannelMapper(nn.Module):
    """1 x 1 convolution and GroupNorm per level, and a 3 x 3 stride-2 one for an extra level.

    Parameters are named as in the reference's checkpoints: `convs.0.conv`, `convs.0.gn`, ...,
    `extra_convs.0`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvNorm(in_channels, out_channels, 1) for _ in range(levels))
        self.extra_convs = nn.ModuleList([ConvNorm(in_channels, out_channels, 3, stride=2)])


def adapted(
    net: Backbone,
    recipe: Callable[..., nn.Module],
    *,
    levels: Sequence[str] | None = None,
) -> Backbone:
    """Apply an adaptation recipe to the pretrained part of a backbone and return the backbone.

    Args:
        net: a pyramid of this package, or Detectron2's FPN; its pretrained part, `net` or
            `bottom_up`, holds its weights already.
        recipe: such as `sora_det.adapt.SoRA(rank=16)`; called with the part, and with a
            `progress` bar if it takes one.
        levels: the maps that the head uses; None means all. What serves the others alone is not
            trained: distributed training accepts no parameter without a gradient.

    Raises:
        ValueError: a backbone of another kind, or an unknown level.
    """
    for part in ("net", "bottom_up"):
        if isinstance(inner := getattr(net, part, None), nn.Module):
            # A callable of one's own need not know of progress.
            options = {"progress": _bar} if "progress" in signature(recipe).parameters else {}
            with torch.random.fork_rng(devices=[]):  # of one seed, all methods' heads start alike
                setattr(net, part, recipe(inner, **options))
            keep_levels(net, tuple(STRIDES) if levels is None else tuple(levels))
            return net
    raise ValueError(f"{type(net).__name__} has neither `net` nor `bottom_up` to adapt")


def _bar(steps: Sequence[Any]) -> Iterable[Any]:
    """Show the progress of a decomposition, on a terminal and by one process alone."""
    return tqdm(steps, desc="decomposing", leave=False, disable=comm.get_rank() > 0 or None)


def keep_levels(backbone: Backbone, levels: Sequence[str]) -> None:
    """Freeze the layers that only serve other levels; a pyramid on a ViT skips them as well."""
    unknown = sorted(set(levels) - set(STRIDES))
    if unknown or not levels:
        raise ValueError(f"levels must be some of {tuple(STRIDES)}, got {tuple(levels)}")
    if isinstance(backbone, _OnPlainViT):
        backbone.levels = tuple(name for name in STRIDES if name in levels)
    for name in set(STRIDES) - set(levels):
        for layer in _serving_only(backbone, name, levels):
            layer.requires_grad_(False)


def _serving_only(backbone: Backbone, level: str, kept: Sequence[str]) -> list[nn.Module]:
    """Return the layers that no level but `level`, which is left out, needs."""
    index = list(STRIDES).index(level)
    if isinstance(backbone, ViTPyramid):
        return [(*backbone.neck.convs, *backbone.neck.extra_convs)[index]]
    if level == "p6" or (level == "p5" and "p6" in kept):
        return []  # p6 is pooled from p5
    if isinstance(backbone, SimplePyramid):
        return [backbone.stages[index]]
    layers = [getattr(backbone, f"fpn_output{index + 2}")]
    finer = list(STRIDES)[:index]  # the top-down path carries every level into the finer ones
    if not set(finer) & set(kept):
        layers.append(getattr(backbone, f"fpn_lateral{index + 2}"))
    return layers


def _four_blocks(blocks: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    if blocks is None:
        ends = (depth // 3, depth // 2, 2 * depth // 3, depth)
        return tuple(max(end - 1, 0) for end in ends)  # a depth below 6 repeats some
    chosen = tuple(blocks)
    if len(chosen) != 4 or not 0 <= chosen[0] <= chosen[1] <= chosen[2] <= chosen[3] < depth:
        raise ValueError(f"blocks must be four ascending numbers of 0..{depth - 1}, got {chosen}")
    return chosen


def _groups(channels: int) -> int:
    """Return 32 where it fits, else the most groups that hold at least four channels each."""
    fitting = (n for n in range(1, 33) if channels % n == 0 and channels // n >= 4)
    return max(fitting, default=1)


def _double(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)


def _smooth(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    ]


def _pixels(given: Sequence[float] | None, own: Sequence[float]) -> tuple[float, ...]:
    values = tuple(float(v) for v in given) if given is not None else tuple(255 * v for v in own)
    if len(values) != 3:
        raise ValueError(f"pixel_mean and pixel_std have one number per colour, got {values}")
    return values


def _round_up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple
