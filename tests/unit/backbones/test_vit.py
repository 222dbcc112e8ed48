"""Where the weights of a ViT come from, and at which size they are kept."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.testing import assert_close

from sora_det.adapt import LowRankLinear, SoRA, merge
from sora_det.backbones import ViTPyramid, adapted, vit
from sora_det.backbones.timm_vit import block_maps, position_for

TINY: dict[str, Any] = {"embed_dim": 16, "depth": 2, "num_heads": 2}
AUGREG = "vit_tiny_patch16_224"


def timm_state(name: str = AUGREG, **kwargs: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = timm.create_model(name, **{"num_classes": 5, **TINY, **kwargs}).state_dict()
    return {key: torch.randn_like(value) for key, value in state.items()}


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "timm.safetensors"
    save_file(timm_state(), path)
    return str(path)


@pytest.mark.parametrize(
    ("sources", "got"),
    [
        ({}, "got nothing"),
        ({"pretrained": True, "random_init": True}, "got pretrained=True, random_init=True"),
        ({"weights": "x.pth", "pretrained": True}, "got weights='x.pth', pretrained=True"),
    ],
)
def test_exactly_one_source_of_weights(sources: dict[str, Any], got: str) -> None:
    with pytest.raises(ValueError, match=got) as error:
        vit(AUGREG, **sources)
    for choice in ("weights=<local file>", "pretrained=True", "random_init=True"):
        assert choice in str(error.value)


def test_unknown_name_brings_near_ones() -> None:
    with pytest.raises(ValueError, match="vit_large_patch14_dinov2"):
        vit("vit_large_patch14_dinov", random_init=True)


def test_other_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="is not a plain ViT"):
        vit("swin_tiny_patch4_window7_224", random_init=True, patch_size=None, img_size=224)
    with pytest.raises(ValueError, match="resnet18 is no plain ViT, or does not take all of"):
        vit("resnet18", random_init=True, patch_size=None)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        vit(AUGREG, weights=str(tmp_path / "absent.pth"))


def test_file_of_timm_without_its_head(file: str) -> None:
    net = vit(AUGREG, weights=file, **TINY)
    state, own = timm_state(), net.state_dict()
    assert state.keys() - own.keys() == {"head.weight", "head.bias"}
    assert all(torch.equal(value, state[key]) for key, value in own.items())
    assert net.weights_source.startswith("timm.safetensors (sha256 ")
    assert not net.random_init


def test_random_init_is_recorded() -> None:
    pyramid = ViTPyramid(vit(AUGREG, random_init=True, **TINY), out_channels=8)
    assert pyramid.random_init
    assert pyramid.weights_source == "random initialisation"


def test_nothing_behind_the_blocks_is_trained() -> None:
    net = vit("samvit_base_patch16", random_init=True, img_size=32, **TINY)
    frozen = {name.split(".")[0] for name, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {"neck"}
    net = vit(AUGREG, random_init=True, **TINY)
    frozen = {name.split(".")[0] for name, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {"norm"}


def test_hub_weights_are_resized_like_those_of_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name, original = "vit_small_patch14_dinov2", timm.create_model
    state = timm_state(name, num_classes=0)
    save_file(state, tmp_path / "file.safetensors")

    def create(name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
        net = original(name, **kwargs)
        if pretrained:
            net.load_state_dict(state)
        return net

    monkeypatch.setattr(timm, "create_model", create)
    hub = vit(name, pretrained=True, img_size=128, **TINY)
    local = vit(name, weights=str(tmp_path / "file.safetensors"), img_size=128, **TINY)
    assert hub.weights_source == "timm hub vit_small_patch14_dinov2.lvd142m"
    for key, value in local.state_dict().items():
        assert torch.equal(hub.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (FileNotFoundError("no connection"), OSError, r"weights=<local file> \(no connection\)"),
        (
            RuntimeError("No pretrained weights exist for x. Use `pretrained=False`"),
            ValueError,
            f"timm's hub has no weights for {AUGREG}: take a file of its authors",
        ),
        (RuntimeError("something else"), RuntimeError, "^something else$"),
    ],
)
def test_hub_without_an_answer(
    raised: Exception, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = timm.create_model

    def create(name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
        if pretrained:
            raise raised
        return original(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(kind, match=message):
        vit(AUGREG, pretrained=True, **TINY)


def test_the_grid_of_pretraining_stays_unless_a_size_is_given() -> None:
    name = "vit_small_patch14_dinov2"
    assert vit(name, random_init=True, **TINY).patch_embed.grid_size == (37, 37)
    assert vit(name, random_init=True, patch_size=None, **TINY).patch_embed.grid_size == (37, 37)
    net = vit(name, random_init=True, img_size=[64, 96], **TINY)
    assert net.patch_embed.grid_size == (4, 6)
    assert net.pos_embed.shape == (1, 1 + 24, 16)


@pytest.mark.parametrize("size", [100, (64, 100), 8])
def test_image_size_must_be_whole_patches(size: int | tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of patch_size 16"):
        vit(AUGREG, random_init=True, img_size=size, **TINY)


def test_position_is_the_stored_one_at_its_own_size() -> None:
    net = vit(AUGREG, random_init=True, img_size=(64, 96), **TINY)
    assert position_for(net, (4, 6)) is net.pos_embed
    assert position_for(net, (6, 4)).shape == net.pos_embed.shape
    assert not torch.equal(position_for(net, (6, 4)), net.pos_embed)


def test_maps_are_those_of_timm_at_the_stored_size() -> None:
    torch.manual_seed(0)
    net = vit("vit_small_patch14_reg4_dinov2", random_init=True, img_size=64, **TINY).eval()
    images = torch.randn(1, 3, 64, 64)
    want = net.forward_intermediates(images, indices=[0, 1], norm=False, intermediates_only=True)
    for got, expected in zip(block_maps(net, images, (0, 1)), want, strict=True):
        assert_close(got, expected)


def block_gradients(**options: bool) -> dict[str, Tensor]:
    """Adapt two blocks, the second of them alone, and return the gradients of what trains."""
    torch.manual_seed(0)
    net = vit(AUGREG, random_init=True, img_size=32, **options, **TINY)
    torch.manual_seed(0)
    SoRA(rank=2, start_block=1)(net)
    block_maps(net, torch.randn(1, 3, 32, 32), (1,))[0].square().sum().backward()
    found = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert all(name.startswith("blocks.1.") for name in found)
    return found


def test_blocks_may_be_recomputed_in_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    want = block_gradients()
    calls = []
    forward = Block.forward
    monkeypatch.setattr(
        Block, "forward", lambda self, x, *rest: calls.append(self) or forward(self, x, *rest)
    )
    assert_close(block_gradients(recompute_blocks=True), want)
    assert len(calls) == 3  # the frozen one is not computed again


def test_compiled_blocks_keep_names_and_copies_are_plain() -> None:
    torch.manual_seed(0)
    net = vit(AUGREG, random_init=True, img_size=32, compile_blocks=True, **TINY)
    assert list(net.state_dict()) == list(vit(AUGREG, random_init=True, **TINY).state_dict())
    adapted_net = SoRA(rank=2, start_block=1)(net)
    assert all(block._compiled_call_impl is not None for block in adapted_net.blocks)
    assert all(block._compiled_call_impl is None for block in merge(adapted_net).blocks)


@pytest.mark.slow
def test_compiled_blocks_give_the_same_gradients() -> None:
    want = block_gradients()
    assert_close(block_gradients(compile_blocks=True), want, rtol=1e-4, atol=1e-5)
    both = block_gradients(compile_blocks=True, recompute_blocks=True)
    assert_close(both, want, rtol=1e-4, atol=1e-5)


def test_weights_are_loaded_before_they_are_decomposed(file: str) -> None:
    """The reference decomposes random weights and then loads the file over the residuals."""
    state, rank = timm_state(), 3
    recipe = SoRA(rank=rank, start_block=0)
    pyramid = adapted(ViTPyramid(vit(AUGREG, weights=file, **TINY), out_channels=8), recipe)
    checked = 0
    for name, layer in pyramid.net.named_modules():
        if not isinstance(layer, LowRankLinear):
            continue
        weight = state[f"{name}.weight"]
        assert_close(layer.weight.detach(), weight)
        assert not torch.allclose(layer.residual, weight, atol=1e-3)
        parts = weight.double().chunk(layer.groups)
        for part, up, down in zip(parts, layer.up, layer.down, strict=True):
            minor = torch.linalg.svd(part, full_matrices=False).Vh[-rank:]  # orthonormal rows
            product = (up @ down).detach().double()
            assert_close(product @ minor.T @ minor, product, rtol=0.0, atol=1e-4)
            assert_close(part @ minor.T @ minor, product, rtol=0.0, atol=1e-4)
            checked += 1
    assert checked == TINY["depth"] * (3 + 3)
