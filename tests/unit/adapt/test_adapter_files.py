"""Adapter files: what training changed comes back, on its own base and nowhere else."""

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapt_nets import left_alone, tiny_vit, tokens
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

from sora_det.adapt import (
    AdaptationError,
    BitFit,
    DoRA,
    DoRALinear,
    Frozen,
    Full,
    LoRA,
    LowRankLinear,
    MiLoRA,
    PiSSA,
    RsLoRA,
    SoRA,
    adapted_layers,
    adapter_parameters,
    attach,
    collect,
    leaf,
    load_adapter,
    low_rank,
    merge,
    read_adapter,
    read_header,
    save_adapter,
    split_minor,
    store,
    svd,
    write_adapter,
)
from sora_det.adapt.inject import inject
from sora_det.adapt.recipes import Recipe

METHODS: dict[str, Callable[[], Recipe]] = {
    "SoRA": lambda: SoRA(rank=2),
    "SoRA with everything": lambda: SoRA(
        rank=2, alpha=3.0, start_block=1, targets=["qkv", "fc2"], train_bias=False, ramp=[[4, 2]]
    ),
    "official": lambda: SoRA(rank=2, start="official"),
    "MiLoRA": lambda: MiLoRA(rank=2),
    "PiSSA": lambda: PiSSA(rank=2, alpha=1.0),
    "LoRA": lambda: LoRA(rank=2, alpha=4.0),
    "RsLoRA": lambda: RsLoRA(rank=4),
    "DoRA": lambda: DoRA(rank=2, ramp=[[5, 2]]),
    "BitFit": BitFit,
    "Full": Full,
    "Frozen": Frozen,
}
methods = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
TIGHT = {"rtol": 1e-5, "atol": 1e-6}


def train(net: nn.Module, steps: int = 3) -> nn.Module:
    trained = [p for p in net.parameters() if p.requires_grad]
    if not trained:
        return net
    optimizer = torch.optim.SGD(trained, lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        (net(tokens()) - 1).square().mean().backward()
        optimizer.step()
    return net


def what_trains(net: nn.Module) -> set[str]:
    return {name for name, parameter in net.named_parameters() if parameter.requires_grad}


@pytest.fixture
def no_decomposition(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and whatever decomposes afterwards fails."""

    def forbid() -> None:
        def fail(*_: object, **__: object) -> None:
            raise AssertionError("decomposed")

        monkeypatch.setattr(svd, "_FIND", dict.fromkeys(svd._FIND, fail))
        monkeypatch.setattr(torch.linalg, "svd", fail)
        monkeypatch.setattr(torch.linalg, "qr", fail)

    return forbid


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """SoRA after a little training."""
    file = tmp_path / "adapter.safetensors"
    save_adapter(train(SoRA(rank=2)(tiny_vit())), file)
    return file


# What comes back


@methods
def test_comes_back(
    make: Callable[[], Recipe], tmp_path: Path, no_decomposition: Callable[[], None]
) -> None:
    net = train(make()(tiny_vit()))
    file = tmp_path / "adapter.safetensors"
    before = copy.deepcopy(net.state_dict())
    save_adapter(net, file)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

    no_decomposition()
    again = load_adapter(tiny_vit(), file)
    assert_close(again(tokens()), net(tokens()), **TIGHT)
    assert what_trains(again) == what_trains(net)
    assert list(again.state_dict()) == list(net.state_dict())
    for name, value in net.state_dict().items():
        assert_close(again.state_dict()[name], value, msg=name, **TIGHT)
    assert (again.sora_adaptation.method, again.sora_adaptation.digests) == (
        net.sora_adaptation.method,
        net.sora_adaptation.digests,
    )
    plain, other = merge(again).state_dict(), merge(net).state_dict()
    for name, value in other.items():
        assert_close(plain[name], value, msg=name, **TIGHT)

    train(net), train(again)
    assert_close(again(tokens()), net(tokens()), rtol=1e-4, atol=1e-5)


@methods
def test_saved_again_is_the_same_file(make: Callable[[], Recipe], tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    save_adapter(train(make()(tiny_vit())), one)
    save_adapter(load_adapter(tiny_vit(), one), two)
    assert one.read_bytes() == two.read_bytes()


def test_training_has_moved_what_is_compared() -> None:
    """Else the tests above would compare starts."""
    for name, make in METHODS.items():
        moved = train(make()(tiny_vit()))(tokens()) - make()(tiny_vit())(tokens())
        assert (moved.abs().max() > 1e-3) == (name != "Frozen"), name


def original(name: str) -> Tensor:
    return tiny_vit().get_parameter(f"{name}.weight")


WIDTHS: dict[str, tuple[Recipe, int]] = {
    "SoRA": (SoRA(rank=2, alpha=3.0), 4),
    "MiLoRA": (MiLoRA(rank=2), 4),
    "PiSSA": (PiSSA(rank=2, alpha=3.0), 4),
    "official": (SoRA(rank=2, alpha=3.0, start="official"), 2),
    "LoRA": (LoRA(rank=2, alpha=3.0), 2),
    "RsLoRA": (RsLoRA(rank=2), 2),
    "DoRA": (DoRA(rank=2, alpha=3.0), 2),
}


@pytest.mark.parametrize(("make", "width"), WIDTHS.values(), ids=WIDTHS)
def test_file_holds_the_change_against_the_original_weight(
    make: Recipe, width: int, tmp_path: Path
) -> None:
    """Read without this package: the weight is original + scale * up @ down, by groups."""
    file = tmp_path / "adapter.safetensors"
    net = train(make(tiny_vit()))
    save_adapter(net, file)
    tensors = load_file(file)
    with safe_open(file, framework="pt") as stored:
        layers = json.loads(stored.metadata()["sora_det"])["layers"]
    assert list(layers) == list(adapted_layers(net))
    for name, layer in adapted_layers(net).items():
        up, down = tensors[f"{name}.up"], tensors[f"{name}.down"]
        assert up.shape[2] == down.shape[1] == width
        weight = original(name) + layers[name]["scale"] * (up @ down).flatten(0, 1)
        if isinstance(layer, DoRALinear):
            lengths = tensors[f"{name}.magnitude"]
            weight = lengths[:, None] * weight / weight.norm(dim=1, keepdim=True)
        assert_close(weight, layer.weight, **TIGHT)
        assert layers[name]["groups"] == (3 if name.endswith("qkv") else 1)
    if width == 4:  # [B, -B0] and [A; A0]
        first = next(m for m in net.modules() if isinstance(m, LowRankLinear))
        name = next(iter(layers))
        assert torch.equal(tensors[f"{name}.up"], torch.cat([first.up, -first.up0], 2))
        assert torch.equal(tensors[f"{name}.down"], torch.cat([first.down, first.down0], 1))


def test_header(tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    save_adapter(
        SoRA(rank=2, start_block=4, ramp=[[5, 2]], targets=["qkv", "fc1"])(tiny_vit()), file
    )
    header = read_header(file)
    assert header["format"] == 1
    assert (header["method"], header["base"]) == ("SoRA", "TinyViT")
    assert (header["start_block"], header["targets"]) == (4, ["fc1", "qkv"])
    assert header["options"]["rank"] == 2
    assert header["options"]["ramp"] == [[5, 2]]
    ranks = {name: entry["rank"] for name, entry in header["layers"].items()}
    assert ranks == {
        "blocks.4.attn.qkv": 2,
        "blocks.4.mlp.fc1": 2,
        "blocks.5.attn.qkv": 4,
        "blocks.5.mlp.fc1": 4,
    }
    lines = ""
    for name in sorted(ranks):
        weight = original(name).detach()
        found = hashlib.sha256(f"{tuple(weight.shape)}\n".encode() + weight.numpy().tobytes())
        assert header["layers"][name]["digest"] == found.hexdigest()
        lines += f"{name} {found.hexdigest()}\n"
    assert header["fingerprint"] == hashlib.sha256(lines.encode()).hexdigest()


def test_half_the_size(tmp_path: Path) -> None:
    net = tiny_vit()
    for name in ("fc1", "fc2"):  # large enough for the header not to count
        for block in net.blocks:
            old = getattr(block.mlp, name)
            wide = (512, old.in_features) if name == "fc1" else (old.out_features, 512)
            setattr(block.mlp, name, nn.Linear(wide[1], wide[0], bias=old.bias is not None))
    plain = copy.deepcopy(net)
    train(SoRA(rank=16)(net))
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_adapter(net, whole)
    save_adapter(net, half, dtype=torch.bfloat16)
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    again = load_adapter(copy.deepcopy(plain), half)
    assert_close(again(tokens()), net(tokens()), rtol=0.02, atol=0.02)
    assert all(p.dtype == torch.float32 for p in again.parameters())


def test_types_of_a_file(saved: Path, tmp_path: Path) -> None:
    adapter = read_adapter(saved)
    for dtype in (torch.int64, torch.complex64, torch.float8_e4m3fn):
        with pytest.raises(AdaptationError, match="adapters are stored as one of"):
            write_adapter(adapter, tmp_path / "other.safetensors", dtype=dtype)
    assert not (tmp_path / "other.safetensors").exists()
    large = SoRA(rank=2)(tiny_vit())
    with torch.no_grad():
        large.blocks[3].attn.qkv.up.fill_(1e6)
    with pytest.raises(AdaptationError, match=r"hold NaN or infinity"):
        save_adapter(large, tmp_path / "other.safetensors", dtype=torch.float16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_base_of_another_type(dtype: torch.dtype, tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    net = SoRA(rank=2)(tiny_vit().to(dtype))
    with torch.no_grad():
        for _, factor in adapter_parameters(net):
            factor.add_(0.1)
    save_adapter(net, file)
    again = load_adapter(tiny_vit().to(dtype), file)
    for name, layer in adapted_layers(again).items():
        assert layer.weight.dtype == dtype
        assert_close(layer.weight, adapted_layers(net)[name].weight, **TIGHT)
    # The same values in float32 are the same base; those before rounding are not.
    load_adapter(tiny_vit().to(dtype).float(), file)
    if dtype != torch.float64:
        with pytest.raises(AdaptationError, match="another base"):
            load_adapter(tiny_vit(), file)


def test_batch_norm_keeps_what_it_has_gathered(tmp_path: Path) -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    net = Full()(build())
    net(torch.randn(8, 4))
    save_adapter(net, tmp_path / "adapter.safetensors")
    again = load_adapter(build(), tmp_path / "adapter.safetensors")
    assert torch.equal(again[1].running_mean, net[1].running_mean)
    assert again[1].num_batches_tracked == 1


# The base


def test_fingerprint_covers_the_adapted_matrices_only(saved: Path) -> None:
    net = tiny_vit()
    with torch.no_grad():
        net.embed.weight.zero_()
        net.blocks[0].attn.qkv.weight.zero_()  # before the first adapted block
        net.blocks[3].norm1.weight.fill_(3)
    assert load_adapter(net, saved).sora_adaptation.fingerprint == read_header(saved)["fingerprint"]


def test_another_base_is_refused(saved: Path) -> None:
    net = tiny_vit()
    with torch.no_grad():
        net.blocks[3].mlp.fc1.weight[2, 3] += 1e-6
    match = (
        r"this TinyViT is another base than that of the adapter \(TinyViT\): 1 of 16 weights "
        r"differ, such as blocks\.3\.mlp\.fc1; fingerprint \w{16} instead of \w{16}\. Load .*"
        r"check=False"
    )
    with left_alone(net), pytest.raises(AdaptationError, match=match):
        load_adapter(net, saved)
    assert load_adapter(net, saved, check=False) is net


def test_all_of_another_base(saved: Path) -> None:
    net = tiny_vit(seed=1)
    with left_alone(net), pytest.raises(AdaptationError, match="16 of 16 weights differ"):
        load_adapter(net, saved)


def test_another_architecture(saved: Path) -> None:
    net = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(16, 16)] * 1)})
    match = r"lacks 16 Linear layers .* such as blocks\.2\.attn\.qkv; nearest: .*made for TinyViT"
    with left_alone(net), pytest.raises(AdaptationError, match=match):
        load_adapter(net, saved)
    shallow = tiny_vit(depth=4)
    with left_alone(shallow), pytest.raises(AdaptationError, match="lacks 8 Linear layers"):
        load_adapter(shallow, saved)
    wide = tiny_vit()
    wide.blocks[3].mlp.fc1 = nn.Linear(16, 40)
    match = r"blocks\.3\.mlp\.fc1 has a weight of shape \(40, 16\), the adapter is for \(32, 16\)"
    with left_alone(wide), pytest.raises(AdaptationError, match=match):
        load_adapter(wide, saved)


def test_bias_that_the_network_lacks(saved: Path) -> None:
    net = tiny_vit()
    net.blocks[3].mlp.fc1.bias = None
    match = r"has no tensor blocks\.3\.mlp\.fc1\.bias; nearest: "
    with left_alone(net), pytest.raises(AdaptationError, match=match):
        load_adapter(net, saved)


@methods
def test_adapted_already(make: Callable[[], Recipe], saved: Path) -> None:
    net = make()(tiny_vit())
    with left_alone(net), pytest.raises(AdaptationError, match=r"adapted already: load onto"):
        load_adapter(net, saved)


def test_base_that_is_not_finite(saved: Path) -> None:
    """Nothing else notices it where the weights are not compared."""
    net = tiny_vit()
    with torch.no_grad():
        net.blocks[3].mlp.fc1.weight[2, 3] = torch.nan
    match = r"blocks\.3\.mlp\.fc1\.residual would not be finite in torch\.float32: look at the ne"
    with left_alone(net), pytest.raises(AdaptationError, match=match):
        load_adapter(net, saved, check=False)


def test_base_of_a_type_too_narrow() -> None:
    net = SoRA(rank=2)(tiny_vit())
    with torch.no_grad():
        net.blocks[3].mlp.fc1.bias.fill_(1e6)
    adapter, half = collect(net), tiny_vit().half()
    match = r"blocks\.3\.mlp\.fc1\.bias is of type torch\.float16, which cannot hold the adapter's"
    with left_alone(half), pytest.raises(AdaptationError, match=match):
        attach(half, adapter, check=False)
    with torch.no_grad():
        net.blocks[3].mlp.fc1.bias.fill_(0)
        net.blocks[3].mlp.fc1.up0.fill_(1e6)
    adapter = collect(net)
    match = r"blocks\.3\.mlp\.fc1\.residual would not be finite in torch\.float16"
    with left_alone(half), pytest.raises(AdaptationError, match=match):
        attach(half, adapter, check=False)


# Files that are not as they were written


def test_truncated_at_any_length(saved: Path, tmp_path: Path) -> None:
    whole, file = saved.read_bytes(), tmp_path / "cut.safetensors"
    net = tiny_vit()
    with left_alone(net):
        for kept in [*range(0, 64), *range(64, len(whole), 997), len(whole) - 1]:
            file.write_bytes(whole[:kept])
            with pytest.raises(AdaptationError, match=r"cut\.safetensors .*"):
                load_adapter(net, file)


def test_a_flipped_bit_anywhere(saved: Path, tmp_path: Path) -> None:
    whole, file = saved.read_bytes(), tmp_path / "flipped.safetensors"
    net = tiny_vit()
    with left_alone(net):
        for place in [*range(0, 4000, 37), *range(4000, len(whole), 499), len(whole) - 1]:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << (place % 8)
            file.write_bytes(damaged)
            with pytest.raises(AdaptationError):
                load_adapter(net, file)


def test_appended_bytes(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"more")
    with pytest.raises(AdaptationError, match="no complete safetensors file"):
        read_adapter(saved)


def test_other_files(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    with pytest.raises(FileNotFoundError):
        read_adapter(file)
    with pytest.raises(AdaptationError, match="is a folder, not an adapter file"):
        read_adapter(tmp_path)
    save_file({"a": torch.ones(2)}, file)
    with pytest.raises(AdaptationError, match="has no adapter header: it was not made by save_"):
        read_adapter(file)
    for text in ("{", "[]", "1", "{}", '{"format": "1"}', "[" * 100_000, '{"format": true}'):
        save_file({"a": torch.ones(2)}, file, metadata={"sora_det": text})
        with pytest.raises(AdaptationError, match=r"the header of other\.safetensors cannot be re"):
            read_adapter(file)
    for version in (0, 2):
        save_file({"a": torch.ones(2)}, file, metadata={"sora_det": f'{{"format": {version}}}'})
        match = f"has format {version}, this version of sora_det reads 1: update it"
        with pytest.raises(AdaptationError, match=match):
            read_header(file)
    file.write_bytes(b"PK\x03\x04 a zip archive, as torch.save writes them")
    with pytest.raises(AdaptationError, match="no complete safetensors file"):
        read_adapter(file)


Edit = Callable[[dict[str, Any], dict[str, Tensor]], object]
LAYER = "blocks.3.mlp.fc1"


def forged(file: Path, edit: Edit) -> Path:
    """Change header and tensors of a file, and give it the checksum that goes with them."""
    tensors = load_file(file)
    header = read_header(file)
    edit(header, tensors)
    rest = {key: value for key, value in header.items() if key != "checksum"}
    found = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        kind = str(value.dtype).removeprefix("torch.")
        found.update(f"\n{name} {kind} {list(value.shape)}\n".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    header["checksum"] = found.hexdigest()
    save_file(tensors, file, metadata={"sora_det": json.dumps(header)})
    return file


def test_forging_works(saved: Path) -> None:
    """A file that is only read and written again is accepted: the checksum below is right."""
    load_adapter(tiny_vit(), forged(saved, lambda header, tensors: None))


def put(key: str, value: Any) -> Edit:
    return lambda header, _: header.update({key: value})


def put_layer(key: str, value: Any) -> Edit:
    return lambda header, _: header["layers"][LAYER].update({key: value})


def put_tensor(name: str, value: Tensor) -> Edit:
    return lambda _, tensors: tensors.update({name: value})


EDITS: dict[str, tuple[Edit, str]] = {
    "no method": (lambda header, _: header.pop("method"), "incomplete: KeyError"),
    "no layers": (lambda header, _: header.pop("layers"), "incomplete: KeyError"),
    "method": (put("method", 5), "method is a int"),
    "base": (put("base", None), "base is a NoneType"),
    "options": (put("options", "rank"), "options is a str"),
    "start block": (put("start_block", "x"), "start_block is a str"),
    "start block below 0": (put("start_block", -1), "contradicts itself in start_block"),
    "fingerprint": (put("fingerprint", "0" * 64), "contradicts itself in fingerprint"),
    "fingerprint of another type": (put("fingerprint", 7), "contradicts itself in fingerprint"),
    "targets": (put("targets", ["qkv"]), "contradicts itself in targets"),
    "targets of another type": (put("targets", {}), "contradicts itself in targets"),
    "layers": (put("layers", []), "layers is a list"),
    "layer": (lambda header, _: header["layers"].update({LAYER: 7}), "incomplete: TypeError"),
    "digest": (put_layer("digest", 7), "digest is a int"),
    "no digest": (put_layer("digest", ""), "contradicts itself in fingerprint"),
    "half a character": (put_layer("digest", "\ud800"), "incomplete: UnicodeEncodeError"),
    "no rank": (lambda header, _: header["layers"][LAYER].pop("rank"), "incomplete: TypeError"),
    "rank": (put_layer("rank", "2"), "rank and groups are whole numbers"),
    "huge rank": (put_layer("rank", 10**6), r"do not fit LayerInfo\(rank=1000000"),
    "groups": (put_layer("groups", -1), "rank and groups are whole numbers"),
    "other groups": (put_layer("groups", 2), "do not fit"),
    "scale": (put_layer("scale", float("nan")), "scale is positive"),
    "infinite scale": (put_layer("scale", float("inf")), "scale is positive"),
    "scale beyond float32": (put_layer("scale", 1e39), "scale is positive"),
    "scale beyond float64": (put_layer("scale", 10**400), "scale is positive"),
    "moved": (put_layer("moved", 1), "moved and differences are true or false"),
    "not moved": (put_layer("moved", False), "do not fit"),
    "unknown entry": (put_layer("novel", 1), "incomplete: TypeError"),
    "no scale": (lambda header, _: header["layers"][LAYER].pop("scale"), "incomplete: TypeErr"),
    "missing": (lambda _, tensors: tensors.pop(f"{LAYER}.up"), r"lacks the tensor blocks\.3"),
    "misshapen": (put_tensor(f"{LAYER}.up", torch.ones(1, 30, 4)), "the adapter is for"),
    "flat": (put_tensor(f"{LAYER}.down", torch.ones(4, 16)), "do not fit"),
    "length": (put_tensor(f"{LAYER}.magnitude", torch.ones(3)), "lengths do not fit"),
    "type": (put_tensor(f"{LAYER}.up", torch.ones(1, 32, 4, dtype=torch.int64)), "only floats"),
    "narrow": (put_tensor(f"{LAYER}.bias", torch.ones(32).to(torch.float8_e5m2)), "only floats"),
    "nan": (put_tensor(f"{LAYER}.bias", torch.full((32,), torch.nan)), "hold NaN or infinity"),
    "infinity": (put_tensor(f"{LAYER}.bias", torch.full((32,), -torch.inf)), "hold NaN or inf"),
    "weight": (put_tensor(f"{LAYER}.weight", torch.ones(32, 16)), "cannot be replaced"),
    "unknown tensor": (put_tensor("blocks.3.novel", torch.ones(1)), "has no tensor blocks"),
    "bias": (put_tensor(f"{LAYER}.bias", torch.ones(31)), r"has shape \(32,\), in the adapter"),
    "float64": (
        put_tensor(f"{LAYER}.bias", torch.full((32,), 1e200, dtype=torch.float64)),
        "bias is of type torch.float32, which cannot hold",
    ),
    "float64 of a factor": (
        put_tensor(f"{LAYER}.up", torch.full((1, 32, 4), 1e200, dtype=torch.float64)),
        r"blocks\.3\.mlp\.fc1\.residual would not be finite",
    ),
    "count": (
        put_tensor(f"{LAYER}.bias", torch.ones(32, dtype=torch.int64)),
        "bias is of type torch.float32, which cannot hold",
    ),
    "unknown layer": (
        lambda header, _: header.update(
            layers={**header["layers"], "blocks.9.fc1": {"digest": ""}}, fingerprint=""
        ),
        r"lacks 1 Linear layers of the adapter, such as blocks\.9\.fc1",
    ),
}


@pytest.mark.parametrize(("edit", "match"), EDITS.values(), ids=EDITS)
def test_file_that_does_not_make_sense(edit: Edit, match: str, saved: Path) -> None:
    net, file = tiny_vit(), forged(saved, edit)
    for check in (True, False):
        with left_alone(net), pytest.raises(AdaptationError, match=match):
            load_adapter(net, file, check=check)


# What no entry of a header may be. Where one of them may, the test below leaves it out.
SENSELESS: tuple[Any, ...] = (
    *(None, True, -1, 0, 7, 10**400, 0.5, 1e300, float("nan"), float("inf")),
    *("", "x", "\ud800", [], [1], [[]], {}, {"x": 1}),
)
PLACES: dict[str, tuple[Any, ...]] = {
    "format": (),
    "method": ("", "x", "\ud800"),  # for people, any text will do
    "base": ("", "x", "\ud800"),
    "fingerprint": (),
    "options": ({}, {"x": 1}),
    "start_block": (None, 0, 7, 10**400),
    "targets": (),
    "layers": (),
    f"layers/{LAYER}": (),
    f"layers/{LAYER}/digest": (),
    f"layers/{LAYER}/rank": (),
    f"layers/{LAYER}/groups": (),
    f"layers/{LAYER}/scale": (7, 0.5),
    f"layers/{LAYER}/moved": (True,),
    f"layers/{LAYER}/novel": (),
}


@pytest.mark.parametrize("place", PLACES)
def test_anything_in_a_header(place: str, saved: Path) -> None:
    """The only way out is an AdaptationError, also where no tensor is read."""
    *path, last = place.split("/")
    whole = saved.read_bytes()
    for value in SENSELESS:
        saved.write_bytes(whole)
        if any(type(value) is type(fine) and value == fine for fine in PLACES[place]):
            continue

        def edit(header: dict[str, Any], _: object, value: Any = value) -> None:
            for key in path:
                header = header[key]
            header[last] = value

        forged(saved, edit)
        with pytest.raises(AdaptationError):
            read_adapter(saved)
        # Only the tensors tell that a count is another one.
        if last not in ("rank", "groups") or type(value) is not int or value < 1:
            with pytest.raises(AdaptationError):
                read_header(saved)


def test_anything_in_an_entry_without_factors(tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    save_adapter(BitFit()(tiny_vit()), file)
    for key in ("scale", "groups", "novel"):
        with pytest.raises(AdaptationError, match="incomplete: TypeError"):
            read_adapter(forged(file, put_layer(key, 1)))


def test_edited_header(saved: Path) -> None:
    tensors, header = load_file(saved), read_header(saved)
    header["options"]["rank"] = 3
    save_file(tensors, saved, metadata={"sora_det": json.dumps(header)})
    with pytest.raises(AdaptationError, match="damaged or was changed after it was written"):
        read_adapter(saved)


# What cannot be saved


def test_network_without_adaptation(tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    net = tiny_vit()
    with pytest.raises(AdaptationError, match=r"carries no adaptation: call a recipe such as SoRA"):
        save_adapter(net, file)
    outer = nn.ModuleDict({"net": SoRA(rank=2)(net)})
    with pytest.raises(AdaptationError, match="carries no adaptation: give its net instead"):
        save_adapter(outer, file)
    by_hand = tiny_vit()
    inject(by_hand, select=leaf("fc1"), wrap=lambda _, linear: linear)
    by_hand.requires_grad_(False)
    with pytest.raises(AdaptationError, match="unknown which were trained: save before freezing"):
        save_adapter(by_hand, file)
    assert not list(tmp_path.iterdir())


def test_training_that_diverged(tmp_path: Path) -> None:
    net = SoRA(rank=2)(tiny_vit())
    with torch.no_grad():
        net.blocks[3].attn.qkv.up[0, 0, 0] = torch.nan
    match = r"1 tensors .* NaN or infinity, such as blocks\.3\.attn\.qkv\.up: the training diverged"
    with left_alone(net), pytest.raises(AdaptationError, match=match):
        save_adapter(net, tmp_path / "adapter.safetensors")


def test_injected_by_hand(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(copy.deepcopy(layers[0]), nn.ReLU(), copy.deepcopy(layers[1]))

    layers = [nn.Linear(6, 5), nn.Linear(5, 4)]
    net = build()
    inject(net, select=leaf("2"), wrap=lambda _, x: low_rank(x, rank=2, start=split_minor))
    with torch.no_grad():
        net[2].up.add_(0.3)
    save_adapter(net, tmp_path / "adapter.safetensors")
    again = load_adapter(build(), tmp_path / "adapter.safetensors")
    assert_close(again(torch.ones(2, 6)), net(torch.ones(2, 6)))


# Writing


FAILURES: dict[str, tuple[BaseException, type[BaseException], str]] = {
    "safetensors": (store.SafetensorError("disk full"), OSError, r"write .*safetensors: disk full"),
    "system": (OSError("disk full"), OSError, "disk full"),
    "memory": (MemoryError("no memory"), MemoryError, "no memory"),
    "interrupt": (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
}


@pytest.mark.parametrize(("raised", "seen", "match"), FAILURES.values(), ids=FAILURES)
def test_a_failing_write_leaves_the_former_file(
    raised: BaseException,
    seen: type[BaseException],
    match: str,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half of it")
        raise raised

    monkeypatch.setattr(store, "save_file", fail)
    before = saved.read_bytes()
    with pytest.raises(seen, match=match):
        save_adapter(SoRA(rank=2)(tiny_vit(seed=1)), saved)
    assert saved.read_bytes() == before
    assert [f.name for f in saved.parent.iterdir()] == [saved.name]


def test_who_reads_meanwhile_has_the_former_file(saved: Path) -> None:
    """The new one takes its place in one step; nothing is written into the one that is there."""
    before = saved.read_bytes()
    with saved.open("rb") as reader:
        start = reader.read(100)
        save_adapter(SoRA(rank=3)(tiny_vit(seed=1)), saved)
        assert start + reader.read() == before
    assert saved.read_bytes() != before


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    place = tmp_path / "adapter.safetensors"
    (place / "precious").mkdir(parents=True)
    with pytest.raises(OSError, match=r"adapter\.safetensors"):
        save_adapter(SoRA(rank=2)(tiny_vit()), place)
    assert [f.name for f in tmp_path.rglob("*")] == [place.name, "precious"]


def test_folder_is_made(tmp_path: Path) -> None:
    save_adapter(SoRA(rank=2)(tiny_vit()), tmp_path / "a" / "b" / "adapter.safetensors")
    assert [f.name for f in (tmp_path / "a" / "b").iterdir()] == ["adapter.safetensors"]


def test_others_may_read_what_they_may_read_elsewhere(saved: Path) -> None:
    (ordinary := saved.with_name("ordinary")).touch()
    assert saved.stat().st_mode == ordinary.stat().st_mode


def test_collected_adapter_is_a_copy() -> None:
    net = SoRA(rank=2)(tiny_vit())
    adapter = collect(net)
    before = {name: value.clone() for name, value in adapter.tensors.items()}
    train(net)
    assert all(torch.equal(value, before[name]) for name, value in adapter.tensors.items())


# What somebody did to the network in between


@pytest.mark.parametrize(
    "make", [lambda: SoRA(rank=2), BitFit, Full], ids=["SoRA", "BitFit", "Full"]
)
def test_freezing_after_training_loses_nothing(make: Callable[[], Recipe], tmp_path: Path) -> None:
    net = train(make()(tiny_vit()))
    wanted = net(tokens())
    net.blocks[4].requires_grad_(False)
    save_adapter(net, tmp_path / "part.safetensors")
    net.requires_grad_(False)
    save_adapter(net, tmp_path / "all.safetensors")
    for name in ("part", "all"):
        again = load_adapter(tiny_vit(), tmp_path / f"{name}.safetensors")
        assert_close(again(tokens()), wanted, **TIGHT)


def test_compiled_network(tmp_path: Path) -> None:
    net = train(SoRA(rank=2)(tiny_vit()))
    save_adapter(torch.compile(net), tmp_path / "compiled.safetensors")
    save_adapter(net, tmp_path / "plain.safetensors")
    compiled, plain = (read_adapter(tmp_path / f"{n}.safetensors") for n in ("compiled", "plain"))
    assert compiled.adaptation.fingerprint == plain.adaptation.fingerprint != ""
    assert compiled.tensors.keys() == plain.tensors.keys()


def test_network_with_a_module_called_adaptation(tmp_path: Path) -> None:
    def make() -> nn.Module:
        net = tiny_vit()
        net.adaptation = nn.Linear(2, 2)
        return net

    net = train(SoRA(rank=2)(make()))
    save_adapter(net, tmp_path / "a.safetensors")
    again = load_adapter(make(), tmp_path / "a.safetensors")
    assert_close(again(tokens()), net(tokens()), **TIGHT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "make", [lambda: SoRA(rank=2), lambda: PiSSA(rank=2)], ids=["SoRA", "PiSSA"]
)
def test_narrow_types_keep_a_small_change(
    make: Callable[[], Recipe], dtype: torch.dtype, tmp_path: Path
) -> None:
    """The start is large and the change small: rounding both apart would leave little of it."""
    net = make()(tiny_vit())
    with torch.no_grad():
        for _, factor in adapter_parameters(net):
            factor += 1e-3 * torch.randn(factor.shape, generator=torch.Generator().manual_seed(2))
    save_adapter(net, tmp_path / "narrow.safetensors", dtype=dtype)
    again = load_adapter(tiny_vit(), tmp_path / "narrow.safetensors")
    for name, layer in adapted_layers(net).items():
        original = tiny_vit().get_submodule(name).weight
        change = layer.weight - original
        error = adapted_layers(again)[name].weight - layer.weight
        assert error.norm() < 0.01 * change.norm(), name
    save_adapter(again, tmp_path / "whole.safetensors")  # and back to the usual layout
    third = load_adapter(tiny_vit(), tmp_path / "whole.safetensors")
    assert_close(third(tokens()), again(tokens()), **TIGHT)


def test_untrained_dora_stays_as_it_is_in_a_narrow_type(tmp_path: Path) -> None:
    save_adapter(DoRA(rank=2)(tiny_vit()), tmp_path / "dora.safetensors", dtype=torch.bfloat16)
    again = load_adapter(tiny_vit(), tmp_path / "dora.safetensors")
    assert_close(again(tokens()), DoRA(rank=2)(tiny_vit())(tokens()), rtol=1e-3, atol=1e-3)


def test_frozen_network_knows_its_base(tmp_path: Path) -> None:
    save_adapter(Frozen()(tiny_vit()), tmp_path / "frozen.safetensors")
    with pytest.raises(AdaptationError, match="another base than that of the adapter"):
        load_adapter(tiny_vit(seed=1), tmp_path / "frozen.safetensors")
