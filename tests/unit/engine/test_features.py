"""Which images and which tokens the analyses look at."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.testing import assert_close

from sora_det.backbones import ViTPyramid, vit
from sora_det.data import Benchmark, register
from sora_det.engine.features import DomainImages, Picture, as_read, block_tokens, vit_of
from tests.tools.tiny_run import tiny

SMALL = {"depth": 4, "embed_dim": 48, "num_heads": 3}


def pyramid(name: str = "vit_tiny_patch16_224", **options: Any) -> ViTPyramid:
    torch.manual_seed(0)
    net = vit(name, random_init=True, img_size=64, **{**SMALL, **options})
    return ViTPyramid(net, out_channels=16).eval()


def picture(height: int, width: int, content: tuple[float, float] | None = None) -> Picture:
    images = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    return Picture(images, content or (height, width))


# Tokens


def test_tokens_are_what_every_block_puts_out() -> None:
    backbone, shown = pyramid(), picture(64, 64)
    seen: list[Tensor] = []
    for block in vit_of(backbone).blocks:
        block.register_forward_hook(lambda _module, _in, out: seen.append(out))
    tokens = block_tokens(backbone, shown)
    assert len(tokens) == len(seen) == 4
    for found, out in zip(tokens, seen, strict=True):
        assert_close(found, out[0, 1:])  # without the class token
        assert not found.requires_grad


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {}),
        ("vit_base_patch14_reg4_dinov2", {"patch_size": 16}),  # class and four registers
        ("eva02_tiny_patch14_224", {"patch_size": 16}),
        ("samvit_base_patch16", {"global_attn_indexes": [3], "window_size": 3}),
    ],
)
def test_tokens_of_every_kind_of_network_stand_in_rows(name: str, options: dict[str, Any]) -> None:
    """A change in one corner of the image is seen first of all in that corner's token."""
    backbone, shown = pyramid(name, **options), picture(64, 128)
    changed = shown.images.clone()
    changed[..., 16:32, 112:128] += 1
    before, after = (
        block_tokens(backbone, shown)[0],
        block_tokens(backbone, Picture(changed, shown.content))[0],
    )
    assert before.shape == (4 * 8, 48)
    assert int((after - before).norm(dim=1).argmax()) == 1 * 8 + 7


@pytest.mark.parametrize(
    ("content", "rows", "columns"),
    [
        ((64, 64), 4, 4),
        ((40, 64), 3, 4),  # the third row's centre, at 40, is the last that counts
        ((39, 64), 2, 4),
        ((64, 23), 4, 1),
        ((3, 3), 1, 1),  # never none at all
    ],
)
def test_padding_is_left_out(content: tuple[float, float], rows: int, columns: int) -> None:
    backbone, shown = pyramid(), picture(64, 64)
    whole = block_tokens(backbone, shown)
    part = block_tokens(backbone, shown._replace(content=content))
    for one, other in zip(whole, part, strict=True):
        assert_close(other, one.unflatten(0, (4, 4))[:rows, :columns].flatten(0, 1), rtol=0, atol=0)


def test_as_read_by_hand() -> None:
    tokens = torch.tensor([[1.0, 3.0], [100.0, 300.0], [5.0, 1.0]])
    assert_close(as_read(tokens), torch.tensor([[-1.0, 1], [-1, 1], [1, -1]]), rtol=0, atol=1e-4)


def test_backbone_without_a_transformer() -> None:
    with pytest.raises(ValueError, match="blocks of a ViT are looked at, but Linear has none"):
        vit_of(nn.Linear(2, 2))


def test_hooks_are_taken_off() -> None:
    backbone = pyramid()
    block_tokens(backbone, picture(64, 64))
    with pytest.raises(RuntimeError):
        block_tokens(backbone, Picture(torch.ones(1, 5, 64, 64), (64, 64)))
    assert not any(block._forward_hooks for block in vit_of(backbone).blocks)


# Images


@pytest.fixture
def cfg(toy: Path, tmp_path: Path) -> DictConfig:
    return tiny(toy, tmp_path)


@pytest.fixture
def benchmark(cfg: DictConfig) -> Benchmark:
    found: Benchmark = instantiate(cfg.benchmark)
    register(found)
    return found


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (2, 2), (3, 3), (50, 3)])
def test_as_many_images_as_there_are(
    cfg: DictConfig, benchmark: Benchmark, limit: int, count: int
) -> None:
    images = DomainImages(cfg, benchmark, benchmark.source.name, limit)
    assert (len(images), images.available) == (count, 3)
    with pytest.raises(ValueError, match="at least 1 image per domain is needed, got 0"):
        DomainImages(cfg, benchmark, benchmark.source.name, 0)


def test_images_are_those_that_a_detector_sees(cfg: DictConfig, benchmark: Benchmark) -> None:
    model = instantiate(cfg.model).eval()
    shown = list(DomainImages(cfg, benchmark, benchmark.source.name, 3).pictures(model))
    cfg.dataloader.test.dataset_name = benchmark.dataset_name(benchmark.source.name, "test")
    for found, batch in zip(shown, instantiate(cfg.dataloader.test), strict=True):
        assert_close(found.images, model.preprocess_image(batch).tensor)
        assert found.content == pytest.approx((64, 64))


def test_content_of_an_image_on_a_larger_canvas(cfg: DictConfig, benchmark: Benchmark) -> None:
    """Resized from 96 pixels to 32, then padded to 64."""
    resize = cfg.dataloader.test.augmentations[0]
    resize.short_edge_length = resize.max_size = 32
    pad = {"_target_": "detectron2.data.transforms.PadTransform",
           "x0": 0, "y0": 0, "x1": 32, "y1": 32, "orig_w": 32, "orig_h": 32}  # fmt: skip
    cfg.dataloader.test.augmentations = [resize, pad]
    model = instantiate(cfg.model).eval()
    (shown,) = DomainImages(cfg, benchmark, benchmark.source.name, 1).pictures(model)
    assert shown.images.shape[-2:] == (64, 64)
    assert shown.content == pytest.approx((32, 32))
    assert len(block_tokens(model.backbone, shown)[0]) == 2 * 2
