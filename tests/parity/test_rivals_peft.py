"""The rivals against Hugging Face PEFT, which is no dependency of the library but of these tests.

PEFT gives a fused qkv one low-rank term, where our recipes give q, k and v one each. Layers that
are not fused are compared here; the exchange of files covers the fused ones.
"""

import copy
from collections.abc import Iterator

import pytest
import timm
import torch
from peft import BeftConfig, LoraConfig, get_peft_model
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn
from torch.testing import assert_close

from sora_det.adapt import (
    BitFit,
    DoRA,
    DoRALinear,
    LoRA,
    LowRankLinear,
    MiLoRA,
    PiSSA,
    RsLoRA,
    SoRA,
    adapted_layers,
    inject,
    leaf,
    low_rank,
    merge,
    start_at_zero,
)
from sora_det.adapt.low_rank import Adapted

RANK, ALPHA = 4, 6.0
TARGETS = ("proj", "fc1", "fc2")
LAYERS = [f"blocks.{i}.{name}" for i in (1, 2) for name in ("attn.proj", "mlp.fc1", "mlp.fc2")]
METHODS = {
    "LoRA": (LoRA, {}),
    "RsLoRA": (RsLoRA, {"use_rslora": True}),
    "PiSSA": (PiSSA, {"init_lora_weights": "pissa"}),
    "DoRA": (DoRA, {"use_dora": True}),
}
CLOSE = {"rtol": 1e-5, "atol": 2e-6}
methods = pytest.mark.parametrize("method", METHODS)


def vit() -> nn.Module:
    """Two blocks of a tiny ViT and one to stay frozen, with spectra that decay as trained ones."""
    torch.manual_seed(3)
    net = timm.create_model(
        "vit_tiny_patch16_224", img_size=64, depth=3, embed_dim=48, num_classes=5
    )
    for module in net.modules():
        if isinstance(module, nn.Linear):
            decay(module)
    return net.eval()


@torch.no_grad()
def decay(linear: nn.Linear) -> None:
    u, s, vh = torch.linalg.svd(linear.weight, full_matrices=False)
    s = torch.logspace(0, -2, len(s))
    linear.weight.copy_(u * s @ vh)
    nn.init.normal_(linear.bias, std=0.1)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def theirs(net: nn.Module, method: str, *, bias: str = "lora_only") -> nn.Module:
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=LAYERS, bias=bias, **METHODS[method][1]
    )
    return get_peft_model(copy.deepcopy(net), config)


def ours(net: nn.Module, method: str, *, train_bias: bool = True) -> nn.Module:
    recipe = METHODS[method][0]
    return recipe(rank=RANK, alpha=ALPHA, start_block=1, targets=TARGETS, train_bias=train_bias)(
        copy.deepcopy(net)
    )


def pairs(mine: nn.Module, other: nn.Module) -> Iterator[tuple[Adapted, PeftLinear]]:
    for name, layer in adapted_layers(mine).items():
        yield layer, other.base_model.model.get_submodule(name)


def low(layer: Adapted) -> LowRankLinear:
    found = layer.direction if isinstance(layer, DoRALinear) else layer
    assert isinstance(found, LowRankLinear)
    return found


def tensors(layer: Adapted, peft: PeftLinear) -> Iterator[tuple[Tensor, Tensor]]:
    """What both train, in the same shapes."""
    yield low(layer).up, peft.lora_B["default"].weight[None]
    yield low(layer).down, peft.lora_A["default"].weight[None]
    if isinstance(layer, DoRALinear):
        yield layer.magnitude, peft.lora_magnitude_vector["default"].weight


@torch.no_grad()
def hand_over(mine: nn.Module, other: nn.Module) -> None:
    """Move the tensors of PEFT away from their start, and copy all of them into ours."""
    generator = torch.Generator().manual_seed(2)
    for layer, peft in pairs(mine, other):
        for to, source in tensors(layer, peft):
            source += 0.05 * torch.randn(source.shape, generator=generator)
            to.copy_(source)
        # PiSSA's residuals differ by the rounding of PEFT's float32 SVD; see the tests of starts.
        low(layer).residual.copy_(peft.get_base_layer().weight)


@methods
def test_scale(method: str) -> None:
    net = vit()
    for layer, peft in pairs(ours(net, method), theirs(net, method)):
        assert low(layer).scale == peft.scaling["default"]


@methods
def test_same_layers_and_same_count_of_trained_numbers(method: str) -> None:
    net = vit()
    mine, other = ours(net, method), theirs(net, method)
    assert list(adapted_layers(mine)) == LAYERS
    assert [n for n, m in other.base_model.model.named_modules() if isinstance(m, PeftLinear)] == (
        LAYERS
    )
    count = [sum(p.numel() for p in n.parameters() if p.requires_grad) for n in (mine, other)]
    assert count[0] == count[1]


@methods
def test_frozen_biases(method: str, images: Tensor) -> None:
    net = vit()
    mine, other = ours(net, method, train_bias=False), theirs(net, method, bias="none")
    hand_over(mine, other)
    assert_close(mine(images), other(images), **CLOSE)
    for one in (mine, other):
        assert not any(p.requires_grad for n, p in one.named_parameters() if n.endswith("bias"))


@methods
def test_start(method: str, images: Tensor) -> None:
    net = vit()
    mine, other = ours(net, method), theirs(net, method)
    assert_close(mine(images), net(images), **CLOSE)
    assert_close(mine(images), other(images), **CLOSE)
    for layer, peft in pairs(mine, other):
        assert_close(low(layer).residual, peft.get_base_layer().weight, **CLOSE)
        product = low(layer).scale * low(layer).up[0] @ low(layer).down[0]
        assert_close(product, peft.get_delta_weight("default"), **CLOSE)
        if isinstance(layer, DoRALinear):
            assert_close(layer.magnitude, peft.lora_magnitude_vector["default"].weight)


@methods
def test_outputs_and_gradients(method: str, images: Tensor) -> None:
    net = vit()
    mine, other = ours(net, method), theirs(net, method)
    hand_over(mine, other)
    inputs = [images.clone().requires_grad_() for _ in range(2)]
    outputs = [mine(inputs[0]), other(inputs[1])]
    assert not torch.allclose(outputs[0], net(images), atol=1e-2), "nothing to compare"
    assert_close(outputs[0], outputs[1], **CLOSE)
    for output in outputs:
        output.square().sum().backward()
    assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-6)
    for layer, peft in pairs(mine, other):
        grads = [
            (low(layer).up.grad[0], peft.lora_B["default"].weight.grad),
            (low(layer).down.grad[0], peft.lora_A["default"].weight.grad),
            (layer.bias.grad, peft.get_base_layer().bias.grad),
        ]
        if isinstance(layer, DoRALinear):
            magnitude = peft.lora_magnitude_vector["default"].weight
            grads.append((layer.magnitude.grad, magnitude.grad))
        for one, two in grads:
            assert two.abs().max() > 0
            assert_close(one, two, rtol=1e-4, atol=1e-5 * float(two.abs().max()))


@methods
def test_merged(method: str, images: Tensor) -> None:
    net = vit()
    mine, other = ours(net, method), theirs(net, method)
    hand_over(mine, other)
    output = other(images).detach()
    plain, their_plain = merge(mine), other.merge_and_unload()
    assert list(plain.state_dict()) == list(their_plain.state_dict()) == list(net.state_dict())
    for name, tensor in plain.state_dict().items():
        assert_close(tensor, their_plain.state_dict()[name], msg=name, **CLOSE)
    assert_close(plain(images), output, **CLOSE)


@methods
def test_training(method: str, images: Tensor) -> None:
    """Ten steps of SGD from the same start end at the same weights."""
    net = vit()
    mine, other = ours(net, method), theirs(net, method)
    hand_over(mine, other)
    for one in (mine, other):
        optimizer = torch.optim.SGD([p for p in one.parameters() if p.requires_grad], lr=0.05)
        for _ in range(10):
            optimizer.zero_grad()
            one(images).square().mean().backward()
            optimizer.step()
    start = net.state_dict()
    plain, their_plain = merge(mine).state_dict(), other.merge_and_unload().state_dict()
    for name in plain:
        assert_close(plain[name], their_plain[name], rtol=1e-4, atol=1e-5, msg=name)
        moved = name.removesuffix(".weight").removesuffix(".bias") in LAYERS
        assert torch.equal(plain[name], start[name]) != moved, name


def test_qkv_in_one_group_is_their_layer(images: Tensor) -> None:
    net = vit()
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["qkv"], bias="lora_only")
    other = get_peft_model(copy.deepcopy(net), config)
    mine = copy.deepcopy(net)
    inject(
        mine,
        select=leaf("qkv"),
        wrap=lambda _, linear: low_rank(linear, rank=RANK, alpha=ALPHA, start=start_at_zero),
    )
    hand_over(mine, other)
    assert_close(mine(images), other(images), **CLOSE)
    assert_close(merge(mine)(images), other.merge_and_unload()(images), **CLOSE)


def test_biases_alone(images: Tensor) -> None:
    """Their bias-only method adds a trained vector to a layer's output; norms it leaves alone."""
    net = vit()
    other = get_peft_model(copy.deepcopy(net), BeftConfig(target_modules=LAYERS))
    mine = BitFit(start_block=1)(copy.deepcopy(net))
    for name, parameter in mine.named_parameters():
        parameter.requires_grad_(name.removesuffix(".bias") in LAYERS)
    for one in (mine, other):
        optimizer = torch.optim.SGD([p for p in one.parameters() if p.requires_grad], lr=0.05)
        for _ in range(10):
            optimizer.zero_grad()
            one(images).square().mean().backward()
            optimizer.step()
    assert_close(mine(images), other(images), **CLOSE)
    start, plain, theirs = (n.state_dict() for n in (net, mine, other.merge_and_unload()))
    assert list(plain) == list(theirs)
    for name, value in plain.items():
        assert_close(value, theirs[name], msg=name, **CLOSE)
        assert torch.equal(value, start[name]) == (name.removesuffix(".bias") not in LAYERS), name


@pytest.mark.parametrize("recipe", [SoRA, MiLoRA])
def test_minor_directions(recipe: type[SoRA]) -> None:
    """Their MiCA trains in the weakest left singular directions too, though in nothing else."""
    net = vit()
    config = LoraConfig(r=RANK, target_modules=LAYERS, init_lora_weights="mica")
    other = get_peft_model(copy.deepcopy(net), config)
    mine = recipe(rank=RANK, start_block=1, targets=TARGETS)(copy.deepcopy(net))
    for layer, peft in pairs(mine, other):
        found, theirs = (
            torch.linalg.qr(one).Q for one in (low(layer).up[0], peft.lora_B["default"].weight)
        )
        assert torch.linalg.matrix_norm(found - theirs @ (theirs.T @ found), 2) < 1e-3


@methods
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (16, 16)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_single_layer(method: str, shape: tuple[int, int], bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    net = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(*shape[::-1], bias=bias)])}).to(dtype)
    recipe, options = METHODS[method]
    mine = recipe(rank=RANK, alpha=ALPHA, start_block=0)(copy.deepcopy(net))
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["blocks.0"], **options)
    other = get_peft_model(copy.deepcopy(net), config)
    hand_over(mine, other)
    layer, peft = next(pairs(mine, other))
    x = torch.randn(5, shape[1]).to(dtype)
    rounding = {"rtol": 0.02, "atol": 0.03} if dtype == torch.bfloat16 else CLOSE
    assert_close(layer(x), peft(x), **rounding)
    merged = other.merge_and_unload().blocks[0]
    assert_close(merge(mine).blocks[0].weight, merged.weight, **rounding)
