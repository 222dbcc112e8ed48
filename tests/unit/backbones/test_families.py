"""SoRA inside one small model of every family of plain ViTs that timm has."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from sora_det.adapt import Full, LowRankLinear, SoRA, adapter_parameters, merge
from sora_det.backbones import SimplePyramid, ViTPyramid, adapted, vit

SMALL = {"embed_dim": 48, "depth": 6, "num_heads": 4, "img_size": 64}
SCALED = {**SMALL, "init_values": 0.5}  # layer scales as released ones have, not nearly zero
FAMILIES: dict[str, dict[str, Any]] = {
    "vit_small_patch14_dinov2": SCALED,
    "vit_small_patch14_reg4_dinov2": SCALED,
    "vit_small_patch16_dinov3": SCALED,
    "vit_small_patch16_dinov3_qkvb": SCALED,  # calls F.linear with qkv.weight itself
    "eva02_tiny_patch14_224": SMALL,  # likewise
    "eva02_base_patch14_224": SMALL,  # q, k and v apart, norm inside the MLP
    "vit_base_patch16_clip_224": SMALL,
    "vit_base_patch16_siglip_224": SMALL,  # no class token
    "samvit_base_patch16": {**SMALL, "window_size": 3, "global_attn_indexes": (2, 5)},
    "deit_tiny_patch16_224": SMALL,
    "vit_tiny_patch16_224": SMALL,  # augreg
}
PRETTY_SMALL = (
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "eva02_tiny_patch14_224",
    "samvit_base_patch16",
    "vit_tiny_patch16_224",
)


@pytest.fixture(params=FAMILIES)
def pyramid(request: pytest.FixtureRequest) -> ViTPyramid:
    torch.manual_seed(0)
    return ViTPyramid(
        vit(request.param, random_init=True, **FAMILIES[request.param]), out_channels=16
    )


def images(height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def loss_of(levels: dict[str, Tensor]) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return sum((x * torch.randn(x.shape, generator=generator)).sum() for x in levels.values())


def check_sora(pyramid: ViTPyramid, recipe: SoRA, batch: Tensor) -> None:
    """Start like the plain network, train adapters alone, merge to the same."""
    with torch.no_grad():
        plain = pyramid(batch)
    adapted(pyramid, recipe)
    levels = pyramid(batch)
    for name, want in plain.items():
        assert_close(levels[name], want, rtol=1e-5, atol=1e-5 * float(want.abs().max()))

    frozen = {n: p.detach().clone() for n, p in pyramid.net.named_parameters() if unadapted(p)}
    trained = dict(adapter_parameters(pyramid.net))
    assert frozen
    assert trained
    loss_of(levels).backward()
    for name, parameter in trained.items():
        grad = parameter.grad
        assert grad is not None, name
        assert torch.isfinite(grad).all(), name
        assert all(group.any() for group in grad), name  # q, k and v each, where they are fused
    torch.optim.SGD([p for p in pyramid.parameters() if p.requires_grad], lr=1e-3).step()
    for name, before in frozen.items():
        assert torch.equal(pyramid.net.get_parameter(name), before), name

    merged = copy.deepcopy(pyramid)
    merged.net = merge(pyramid.net)
    assert not any(isinstance(module, LowRankLinear) for module in merged.modules())
    with torch.no_grad():
        want, got = pyramid(batch), merged(batch)
    for name in want:
        scale = float(want[name].abs().max())
        assert_close(got[name], want[name], rtol=1e-5, atol=1e-5 * scale)
        assert not torch.equal(want[name], plain[name])


def unadapted(parameter: nn.Parameter) -> bool:
    return not parameter.requires_grad


def test_sora_in_every_family(pyramid: ViTPyramid) -> None:
    check_sora(pyramid, SoRA(rank=4, start_block=1), images())


def test_full_fine_tuning_reaches_every_parameter(pyramid: ViTPyramid) -> None:
    adapted(pyramid, Full())
    loss_of(pyramid(images())).backward()
    missed = [n for n, p in pyramid.named_parameters() if p.requires_grad and p.grad is None]
    assert missed == []


def test_early_blocks_keep_nothing_for_the_backward_pass(pyramid: ViTPyramid) -> None:
    assert pyramid.blocks == (1, 2, 3, 5)
    adapted(pyramid, SoRA(rank=4, start_block=2))
    maps = pyramid.raw_maps(images())
    assert [x.requires_grad for x in maps] == [False, True, True, True]


def test_simple_pyramid_on_every_family(pyramid: ViTPyramid) -> None:
    simple = SimplePyramid(pyramid.net, out_channels=16)
    levels = simple(images())
    assert [tuple(x.shape[-2:]) for x in levels.values()] == [
        (16, 24),
        (8, 12),
        (4, 6),
        (2, 3),
        (1, 2),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETTY_SMALL)
def test_sora_in_released_sizes(name: str) -> None:
    torch.manual_seed(0)
    pyramid = ViTPyramid(vit(name, random_init=True, img_size=128))
    check_sora(pyramid, SoRA(rank=8), images(128, 128))
