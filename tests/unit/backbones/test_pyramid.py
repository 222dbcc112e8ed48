"""The two pyramids: sizes, strides, alignment and the interface of Detectron2."""

from typing import Any

import pytest
import torch
from detectron2.config import LazyCall, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import nn
from torch.testing import assert_close

from sora_det.adapt import Frozen, LoRA, SoRA
from sora_det.backbones import SimplePyramid, ViTPyramid, adapted, resnet_fpn, vit

TINY: dict[str, Any] = {"embed_dim": 16, "depth": 4, "num_heads": 2}
PYRAMIDS = pytest.mark.parametrize("kind", [ViTPyramid, SimplePyramid])


def small(patch_size: int = 16, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    options = {**TINY, "patch_size": patch_size, **kwargs}
    return vit("vit_tiny_patch16_224", random_init=True, **options)


@PYRAMIDS
@pytest.mark.parametrize("patch_size", [8, 14, 16, 32])
@pytest.mark.parametrize("size", [(64, 96), (1, 33), (70, 45)])
def test_any_image_and_patch_size(
    kind: type[Backbone], patch_size: int, size: tuple[int, int]
) -> None:
    pyramid = kind(small(patch_size), out_channels=8)
    levels = pyramid(torch.randn(1, 3, *size))
    shapes = pyramid.output_shape()
    assert list(levels) == list(shapes) == ["p2", "p3", "p4", "p5", "p6"]
    assert [shape.stride for shape in shapes.values()] == [4, 8, 16, 32, 64]
    height, width = (-(-side // 32) * 32 for side in size)
    for name, level in levels.items():
        stride = shapes[name].stride
        assert level.shape == (1, 8, -(-height // stride), -(-width // stride)), name
        assert torch.isfinite(level).all()


@PYRAMIDS
def test_the_interface_of_detectron2(kind: type[Backbone]) -> None:
    pyramid = kind(small(), out_channels=8)
    assert isinstance(pyramid, Backbone)
    assert pyramid.size_divisibility == 64
    assert pyramid.padding_constraints == {"size_divisibility": 64}
    assert pyramid.output_shape()["p3"] == ShapeSpec(channels=8, stride=8)


def test_padding_beyond_the_image_is_its_mean() -> None:
    pyramid = ViTPyramid(small(), out_channels=8)
    image = torch.randn(1, 3, 50, 60)
    padded = torch.zeros(1, 3, 64, 64)
    padded[..., :50, :60] = image
    for name, level in pyramid(padded).items():
        assert torch.equal(pyramid(image)[name], level)


@pytest.mark.parametrize("patch_size", [8, 14, 16, 32])
def test_cells_stay_where_they_are_in_the_image(
    patch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def places(net: nn.Module, images: torch.Tensor, blocks: tuple[int, ...]) -> list[torch.Tensor]:
        rows, columns = (side // patch_size for side in images.shape[-2:])
        y = (torch.arange(rows) + 0.5) * patch_size
        x = (torch.arange(columns) + 0.5) * patch_size
        return [torch.stack(torch.meshgrid(y, x, indexing="ij"))[None] for _ in blocks]

    monkeypatch.setattr("sora_det.backbones.pyramid.block_maps", places)
    pyramid = ViTPyramid(small(patch_size), out_channels=8)
    side = 256
    for level, stride in zip(
        pyramid.raw_maps(torch.zeros(1, 3, side, side)), (4, 8, 16, 32), strict=True
    ):
        centres = (torch.arange(side // stride) + 0.5) * stride
        inside = (centres > patch_size) & (centres < side - patch_size)  # edges are clamped
        assert_close(level[0, 1, 0][inside], centres[inside])
        assert_close(level[0, 0, :, 0][inside], centres[inside])


def test_projecting_before_or_after_the_resize_is_the_same() -> None:
    pyramid = ViTPyramid(small(), out_channels=8)
    images = torch.randn(2, 3, 64, 96)
    maps, neck = pyramid.raw_maps(images), pyramid.neck
    want = [convolution(x) for convolution, x in zip(neck.convs, maps, strict=True)]
    want.append(neck.extra_convs[0](maps[-1]))
    for got, expected in zip(pyramid(images).values(), want, strict=True):
        assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [(24, (7, 11, 15, 23)), (12, (3, 5, 7, 11)), (40, (12, 19, 25, 39)), (2, (0, 0, 0, 1))],
)
def test_blocks_are_taken_in_proportion(depth: int, blocks: tuple[int, ...]) -> None:
    net = small(depth=depth, embed_dim=4, num_heads=1)
    assert ViTPyramid(net, out_channels=8).blocks == blocks


@pytest.mark.parametrize("blocks", [(0, 1, 2), (0, 1, 2, 4), (-1, 1, 2, 3), (2, 1, 2, 3)])
def test_wrong_blocks(blocks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"four ascending numbers of 0\.\.3"):
        ViTPyramid(small(), blocks=blocks)


def test_blocks_that_no_map_needs_are_dropped() -> None:
    pyramid = ViTPyramid(small(), out_channels=8, blocks=(0, 0, 1, 2))
    assert len(pyramid.net.blocks) == 3
    assert pyramid(torch.zeros(1, 3, 64, 64))["p2"].shape == (1, 8, 16, 16)


def test_neck_is_that_of_the_reference() -> None:
    pyramid = ViTPyramid(small(), out_channels=256)
    shapes = {name: tuple(p.shape) for name, p in pyramid.neck.named_parameters()}
    assert shapes["convs.0.conv.weight"] == (256, 16, 1, 1)
    assert shapes["extra_convs.0.conv.weight"] == (256, 16, 3, 3)
    assert shapes["convs.3.gn.weight"] == (256,)
    assert len(shapes) == 3 * 5
    assert all(m.num_groups == 32 for m in pyramid.neck.modules() if isinstance(m, nn.GroupNorm))
    bound = (6 / (16 + 256)) ** 0.5
    weight = pyramid.neck.convs[0].conv.weight
    assert 0.95 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize(("channels", "groups"), [(128, 32), (64, 16), (24, 6), (8, 2), (7, 1)])
def test_groups_of_few_channels(channels: int, groups: int) -> None:
    pyramid = ViTPyramid(small(), out_channels=channels)
    assert pyramid.neck.convs[0].gn.num_groups == groups


def test_normalisation_is_that_of_the_weights_unless_given() -> None:
    assert ViTPyramid(small(), out_channels=8).pixel_mean == (127.5, 127.5, 127.5)
    dino = vit("vit_small_patch14_dinov2", random_init=True, **TINY)
    pyramid = SimplePyramid(dino, out_channels=8, pixel_std=[1, 2, 3])
    assert pyramid.pixel_mean == pytest.approx((123.675, 116.28, 103.53))
    assert pyramid.pixel_std == (1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="one number per colour"):
        ViTPyramid(small(), pixel_mean=[1.0])


@PYRAMIDS
def test_normalisation_of_other_weights_is_told(
    kind: type[Backbone], caplog: pytest.LogCaptureFixture
) -> None:
    """Such as DINOv2's, left in a config whose `backbone.net.name` was swapped."""
    net = small()
    dinov2 = {"pixel_mean": [123.675, 116.28, 103.53], "pixel_std": [58.395, 57.12, 57.375]}
    kind(net, out_channels=8, **dinov2)
    assert not caplog.records  # an untrained network has no opinion
    net.random_init = False
    kind(net, out_channels=8)
    kind(net, out_channels=8, pixel_mean=[127, 127.5, 128], pixel_std=[127.5, 127.5, 127.5])
    assert not caplog.records
    kind(net, out_channels=8, **dinov2)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    for part in ("[123.675, 116.28, 103.53]", "vit_tiny_patch16_224", "[127.5, 127.5, 127.5]"):
        assert part in record.getMessage()


def test_simple_pyramid_has_the_stages_of_vitdet() -> None:
    pyramid = SimplePyramid(small(), out_channels=8)
    first = [type(module).__name__ for module in pyramid.stages[0]]
    assert first[:4] == ["ConvTranspose2d", "LayerNorm2d", "GELU", "ConvTranspose2d"]
    assert first[4:] == ["Conv2d", "LayerNorm2d", "Conv2d", "LayerNorm2d"]
    images = torch.randn(1, 3, 64, 64)
    levels = pyramid(images)
    assert torch.equal(levels["p6"], levels["p5"][..., ::2, ::2])
    with pytest.raises(ValueError, match="multiple of 4"):
        SimplePyramid(small(embed_dim=18, num_heads=3))


def test_only_plain_networks_with_square_patches() -> None:
    with pytest.raises(ValueError, match="Linear is not a plain ViT"):
        ViTPyramid(nn.Linear(2, 2))
    net = small()
    net.patch_embed.patch_size = (16, 8)
    with pytest.raises(ValueError, match="square patches"):
        ViTPyramid(net)


def test_adapted_reaches_the_pretrained_part_alone() -> None:
    pyramid = ViTPyramid(small(), out_channels=8)
    assert adapted(pyramid, SoRA(rank=2)) is pyramid
    assert all(p.requires_grad for p in pyramid.neck.parameters())
    fpn = adapted(resnet_fpn(18, random_init=True), Frozen())
    assert not any(p.requires_grad for p in fpn.bottom_up.parameters())
    assert all(p.requires_grad for n, p in fpn.named_parameters() if n.startswith("fpn_"))
    with pytest.raises(ValueError, match="Linear has neither"):
        adapted(nn.Linear(2, 2), Frozen())
    with pytest.raises(ValueError, match=r"no blocks\.0"):
        adapted(resnet_fpn(18, random_init=True), SoRA())


def test_built_from_a_lazy_config() -> None:
    net = LazyCall(vit)(name="vit_tiny_patch16_224", random_init=True, img_size=[64, 96], **TINY)
    backbone = LazyCall(ViTPyramid)(
        net=net, out_channels=8, blocks=[0, 1, 2, 3], pixel_mean=[1, 2, 3]
    )
    recipe = LazyCall(SoRA)(rank=2, start_block=1)
    pyramid = instantiate(LazyCall(adapted)(net=backbone, recipe=recipe))
    assert pyramid.net.patch_embed.grid_size == (4, 6)
    assert pyramid.blocks == (0, 1, 2, 3)
    assert pyramid.pixel_mean == (1.0, 2.0, 3.0)
    assert pyramid(torch.zeros(1, 3, 64, 96))["p2"].shape == (1, 8, 16, 24)


def test_what_comes_after_starts_alike_whatever_the_method_draws() -> None:
    after = []
    for recipe in (LoRA(rank=2), Frozen()):
        pyramid = ViTPyramid(small(), out_channels=8)
        torch.manual_seed(7)
        adapted(pyramid, recipe)
        after.append(torch.rand(3))
    assert torch.equal(*after)


@pytest.mark.parametrize("kind", ["paper", "simple", "fpn"])
@pytest.mark.parametrize("levels", [("p3", "p4", "p5", "p6"), ("p2", "p4"), ("p6",)])
def test_unused_levels_do_not_train(kind: str, levels: tuple[str, ...]) -> None:
    """What trains is exactly what the kept levels reach."""
    if kind == "fpn":
        backbone = resnet_fpn(18, random_init=True, out_channels=8)
    else:
        net = vit("vit_tiny_patch16_224", random_init=True, depth=4, embed_dim=24, num_heads=3)
        backbone = {"paper": ViTPyramid, "simple": SimplePyramid}[kind](net, out_channels=8)
    backbone = adapted(backbone, lambda inner: inner.requires_grad_(False), levels=levels)
    maps = backbone(torch.randn(1, 3, 64, 64))
    if kind != "fpn":
        assert tuple(maps) == tuple(backbone.output_shape()) == levels
    sum(maps[name].square().sum() for name in levels).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name


@pytest.mark.parametrize("levels", [(), ("p7",)])
def test_unknown_levels(levels: tuple[str, ...]) -> None:
    backbone = resnet_fpn(18, random_init=True, out_channels=8)
    with pytest.raises(ValueError, match="levels must be some of"):
        adapted(backbone, lambda inner: inner, levels=levels)
