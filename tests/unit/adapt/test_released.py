"""The checkpoint that SoRA's authors published, read onto a timm ViT."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from adapt_nets import left_alone
from torch import Tensor, nn
from torch.testing import assert_close

from sora_det.adapt import AdaptationError, load_adapter, merge, read_header, save_adapter
from sora_det.adapt.released import PREFIX, attach_published, read_published

SHAPES = Path(__file__).parents[2] / "data" / "parity" / "released_ckpt_shapes.json"
FIRST, RANK, WIDTH = 1, 2, 48
PARTS = ("q", "k", "v")


def whole_file() -> dict[str, Tensor]:
    """Random numbers in the layout of the real file: 743 tensors, 175 MB."""
    shapes = json.loads(SHAPES.read_text())["shapes"]
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def vit() -> nn.Module:
    torch.manual_seed(0)
    options = {"img_size": 32, "depth": 3, "embed_dim": WIDTH, "num_heads": 3, "num_classes": 0}
    net = timm.create_model("vit_tiny_patch16_224", **options).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    return net


def as_published(net: nn.Module) -> dict[str, Tensor]:
    """What the authors' tool would keep of `net` after training: names and order of theirs."""
    generator = torch.Generator().manual_seed(1)

    def trained(*shape: int) -> Tensor:
        return 0.1 * torch.randn(*shape, generator=generator)

    state = {"mask_token": torch.zeros(1, WIDTH)}
    for name, value in net.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if kind != "bias":
            continue
        block = int(name.split(".")[1]) if name.startswith("blocks.") else -1
        fused = layer.endswith("qkv")
        stem = layer.removesuffix("qkv")
        names = [f"{stem}{part}" for part in PARTS] if fused else [layer]
        for own, bias in zip(names, value.chunk(len(names)), strict=True):
            moves = block >= FIRST and "norm" not in own
            state[f"{own}.bias"] = bias + trained(len(bias)) if moves else bias.clone()
            if moves:
                inner = net.get_submodule(layer).in_features
                state[f"{own}.lora_A.weight"] = trained(RANK, inner)
                state[f"{own}.lora_B.weight"] = trained(len(bias), RANK)
    return {f"{PREFIX}{name}": value for name, value in state.items()} | {
        "neck.convs.0.conv.weight": trained(4, WIDTH, 1, 1),
        "query_head.cls_branches.0.bias": trained(7),
    }


def test_every_key_of_the_real_layout_has_its_place() -> None:
    state = whole_file()
    assert len(state) == 743
    found = read_published(state)
    with torch.device("meta"):
        net = timm.create_model("vit_large_patch14_dinov2", num_classes=0)
    own = net.state_dict()
    linears = {n for n, m in net.named_modules() if isinstance(m, nn.Linear)}
    layers = {n for n in linears if n.startswith("blocks.") and int(n.split(".")[1]) >= 8}
    assert set(found.adapter.layers) == layers
    assert len(layers) == 16 * 4
    for name, info in found.adapter.layers.items():
        assert found.adapter.shape(name) == own[f"{name}.weight"].shape
        assert (info.rank, info.scale, info.moved) == (16, 1.0, False)
        assert info.groups == (3 if name.endswith("qkv") else 1)
    biases = {name for name in own if name.endswith(".bias")}
    assert {*found.frozen, *found.adapter.own()} == biases
    for name, value in {**found.frozen, **found.adapter.own()}.items():
        assert value.shape == own[name].shape
    assert len(found.head) == 743 - 387
    assert found.adapter.adaptation.start_block == 8
    # Each part of a fused layer is the one of that name.
    for at, part in enumerate(PARTS):
        name = f"blocks.11.attn.{part}"
        up = found.adapter.tensors["blocks.11.attn.qkv.up"][at]
        assert torch.equal(up, state[f"{PREFIX}{name}.lora_B.weight"])


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_adapted_network_is_the_whole_weight_and_the_product(scale: float) -> None:
    net = vit()
    state = as_published(net)
    by_hand = copy.deepcopy(net)
    with torch.no_grad():
        for name, parameter in by_hand.named_parameters():
            layer, _, kind = name.rpartition(".")
            stem = layer.removesuffix("qkv")
            names = [f"{stem}{part}" for part in PARTS] if layer.endswith("qkv") else [layer]
            if kind == "bias":
                parameter.copy_(torch.cat([state[f"{PREFIX}{n}.bias"] for n in names]))
            elif f"{PREFIX}{names[0]}.lora_A.weight" in state:
                for n, rows in zip(names, parameter.chunk(len(names)), strict=True):
                    down = state[f"{PREFIX}{n}.lora_A.weight"]
                    rows.add_(scale * state[f"{PREFIX}{n}.lora_B.weight"] @ down)
    attach_published(net, read_published(state, scale=scale))
    x = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(net(x), vit()(x), atol=1e-2), "nothing to compare"
    assert_close(net(x), by_hand(x))
    plain = merge(net).state_dict()
    for name, value in by_hand.state_dict().items():
        assert_close(plain[name], value, msg=name)


def test_becomes_an_adapter_file_with_a_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "published.safetensors"
    net = attach_published(vit(), read_published(as_published(vit())))
    save_adapter(net, file)
    header = read_header(file)
    assert header["options"] == {"rank": RANK, "alpha": RANK, "start": "official"}
    assert (header["method"], header["start_block"]) == ("SoRA", FIRST)
    assert header["base"] == "vit_tiny_patch16_224"
    assert len(header["fingerprint"]) == 64
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_adapter(vit(), file)(x), net(x))
    other = vit()
    other.blocks[2].mlp.fc1.weight.data[0, 0] += 1e-3
    with pytest.raises(AdaptationError, match=r"another base .* blocks\.2\.mlp\.fc1"):
        load_adapter(other, file)


def test_another_base_is_refused_by_its_biases() -> None:
    net = vit()
    found = read_published(as_published(net))
    net.blocks[0].norm1.bias.data[3] += 1e-4
    match = r"not the base .* 1 of \d+ frozen biases differ, such as blocks\.0\.norm1\.bias\. Load"
    with left_alone(net), pytest.raises(AdaptationError, match=match):
        attach_published(net, found)


def test_base_without_any_of_the_biases() -> None:
    net = nn.Sequential(nn.Linear(4, 4, bias=False))
    found = read_published(as_published(vit()))
    with left_alone(net), pytest.raises(AdaptationError, match="has none of the frozen biases"):
        attach_published(net, found)


def test_network_that_is_too_shallow() -> None:
    net = vit()
    found = read_published(as_published(net))
    del net.blocks[2]
    match = r"lacks 4 Linear layers of the adapter, such as blocks\.2\.attn\.qkv; nearest:"
    with left_alone(net), pytest.raises(AdaptationError, match=match):
        attach_published(net, found)


def without(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.pop(f"{PREFIX}{name}")


def with_shape(name: str, *shape: int) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.update({f"{PREFIX}{name}": torch.zeros(shape)})


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (without("blocks.1.attn.k.lora_A.weight"), r"attn\.\w\.lora_\w\.weight .* incomplete"),
        (without("blocks.1.attn.k.lora_B.weight"), r"attn\.k\.lora_B\.weight is missing"),
        (without("blocks.2.attn.v.bias"), r"blocks\.2\.attn\.v\.bias is missing"),
        (without("blocks.0.attn.q.bias"), r"blocks\.0\.attn\.q\.bias is missing"),
        (without("blocks.1.mlp.fc1.lora_B.weight"), r"mlp\.fc1\.lora_B\.weight is missing"),
        (with_shape("blocks.1.attn.k.lora_A.weight", 3, WIDTH), r"lora_A\.weight and its neighb"),
        (with_shape("blocks.1.mlp.fc1.lora_B.weight", 7, 3), r"up \(1, 7, 3\) and down"),
        (with_shape("blocks.0.attn.q.weight", WIDTH, WIDTH), "not a whole checkpoint"),
        (lambda state: state.clear(), "not the published adapter"),
    ],
    ids=range(9),
)
def test_incomplete_file(damage: Callable[[dict[str, Tensor]], object], match: str) -> None:
    state = as_published(vit())
    damage(state)
    with pytest.raises(AdaptationError, match=match):
        read_published(state)


def test_values_that_are_not_finite() -> None:
    state = as_published(vit())
    state[f"{PREFIX}blocks.1.attn.k.lora_A.weight"][0, 0] = torch.nan
    with pytest.raises(AdaptationError, match=r"NaN or infinity, such as blocks\.1\.attn\.qkv"):
        read_published(state)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_scale_out_of_range(scale: float) -> None:
    with pytest.raises(AdaptationError, match="scale is positive"):
        read_published(as_published(vit()), scale=scale)
