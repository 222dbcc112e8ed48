"""Adapters that Hugging Face PEFT loads, and adapters that it wrote."""

import copy
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from peft import IA3Config, LoHaConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

from sora_det.adapt import (
    AdaptationError,
    BitFit,
    DoRA,
    LoRA,
    MiLoRA,
    PiSSA,
    RsLoRA,
    SoRA,
    adapted_layers,
    adapter_parameters,
    attach,
    collect,
    export_peft,
    import_peft,
    merge,
    read_adapter,
    save_adapter,
    store,
)
from sora_det.adapt.recipes import Recipe

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RANK = 3
RECIPES: dict[str, Callable[[], Recipe]] = {
    "SoRA": lambda: SoRA(rank=RANK),
    "SoRA, alpha and ramp": lambda: SoRA(rank=RANK, alpha=4.0, start_block=0, ramp=[[2, 2]]),
    "SoRA, biases frozen": lambda: SoRA(rank=RANK, train_bias=False),
    "SoRA, some layers": lambda: SoRA(rank=RANK, targets=["qkv", "fc2"]),
    "official": lambda: SoRA(rank=RANK, start="official"),
    "MiLoRA": lambda: MiLoRA(rank=RANK),
    "PiSSA": lambda: PiSSA(rank=RANK, alpha=1.0),
    "LoRA": lambda: LoRA(rank=RANK, alpha=7.0),
    "RsLoRA": lambda: RsLoRA(rank=RANK),
    "DoRA": lambda: DoRA(rank=RANK),
    "DoRA, ramp": lambda: DoRA(rank=RANK, alpha=2.0, ramp=[[2, 3]]),
}
recipes = pytest.mark.parametrize("make", RECIPES.values(), ids=RECIPES)


def vit() -> nn.Module:
    """Three blocks, with biases that are not zero."""
    torch.manual_seed(3)
    options = {"img_size": 64, "depth": 3, "embed_dim": 48, "num_heads": 3, "num_classes": 5}
    net = timm.create_model("vit_tiny_patch16_224", **options).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.normal_(std=0.2) if name.endswith("bias") else None
    return net


def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def moved(net: nn.Module) -> nn.Module:
    """As training would: factors, lengths and biases."""
    generator = torch.Generator().manual_seed(2)
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return net


@torch.no_grad()
def difference(one: nn.Module, two: nn.Module) -> float:
    """Largest difference of outputs, relative to the largest output."""
    a, b = one(images()), two(images())
    return float((a - b).abs().max() / b.abs().max())


def loaded(folder: Path) -> nn.Module:
    """Let PEFT load a folder, without a warning and with every tensor of it in its place."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = PeftModel.from_pretrained(vit(), folder).eval()
    state = model.state_dict()
    for key, value in load_file(folder / WEIGHTS).items():
        stem, lora, part = key.partition(".lora_")
        name = part.removesuffix(".weight")
        place = f"{stem}.lora_{name}.default.weight" if lora else key
        assert torch.equal(state[place], value), key
    return model


# Export


@recipes
def test_peft_computes_the_same(make: Callable[[], Recipe], tmp_path: Path) -> None:
    net = moved(make()(vit()))
    assert difference(net, vit()) > 0.01, "nothing to compare"
    export_peft(net, tmp_path)
    theirs = loaded(tmp_path)
    assert difference(theirs, net) < 1e-5  # 1e-4 is asked for
    plain = theirs.merge_and_unload()
    assert list(plain.state_dict()) == list(vit().state_dict())
    assert difference(plain, net) < 1e-5
    ours = merge(net).state_dict()
    for name, value in plain.state_dict().items():
        assert_close(value, ours[name], rtol=0, atol=1e-5, msg=name)


def test_fused_layer_of_a_moved_start_has_six_times_the_rank(tmp_path: Path) -> None:
    net = moved(SoRA(rank=RANK, alpha=2.0)(vit()))
    export_peft(net, tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    theirs = loaded(tmp_path).base_model.model
    for name, layer in adapted_layers(net).items():
        width = (6 if name.endswith("qkv") else 2) * RANK
        peft = theirs.get_submodule(name)
        assert peft.r["default"] == width
        assert peft.scaling["default"] == pytest.approx(layer.scale)
    assert config["r"] == 2 * RANK
    assert set(config["rank_pattern"].values()) == {6 * RANK}
    assert set(config["alpha_pattern"]) == set(config["rank_pattern"])
    assert len(config["rank_pattern"]) == 2


def test_only_the_adapted_layers_are_matched(tmp_path: Path) -> None:
    """other.blocks.1.attn.qkv ends as blocks.1.attn.qkv does: it must not be wrapped."""
    export_peft(SoRA(rank=RANK)(vit()), tmp_path)
    net = vit()
    net.other = nn.ModuleDict({"blocks": copy.deepcopy(net.blocks)})
    model = PeftModel.from_pretrained(net, tmp_path).base_model.model
    wrapped = [name for name, module in model.named_modules() if hasattr(module, "lora_A")]
    assert wrapped == [name for name, _ in adapted_layers(SoRA(rank=RANK)(vit())).items()]


def test_adapter_file_is_enough(tmp_path: Path) -> None:
    net = moved(SoRA(rank=RANK)(vit()))
    save_adapter(net, tmp_path / "adapter.safetensors")
    export_peft(read_adapter(tmp_path / "adapter.safetensors"), tmp_path / "peft")
    assert difference(loaded(tmp_path / "peft"), net) < 1e-5


def test_half_precision(tmp_path: Path) -> None:
    net = moved(SoRA(rank=RANK)(vit()))
    save_adapter(net, tmp_path / "adapter.safetensors", dtype=torch.bfloat16)
    export_peft(read_adapter(tmp_path / "adapter.safetensors"), tmp_path / "peft")
    assert difference(loaded(tmp_path / "peft"), net) < 0.02


def test_what_else_trains(tmp_path: Path) -> None:
    """A head and norms are no part of a recipe, but the user may train them."""
    net = SoRA(rank=RANK)(vit())
    net.head.requires_grad_(True)
    net.norm.requires_grad_(True)
    moved(net)
    export_peft(net, tmp_path)
    assert json.loads((tmp_path / CONFIG).read_text())["bias"] == "all"
    model = loaded(tmp_path)
    assert difference(model, net) < 1e-5
    assert torch.equal(model.base_model.model.head.weight, net.head.weight)
    assert difference(model.merge_and_unload(), net) < 1e-5


def test_biases_that_do_not_train_are_not_written(tmp_path: Path) -> None:
    export_peft(moved(SoRA(rank=RANK, train_bias=False)(vit())), tmp_path)
    assert json.loads((tmp_path / CONFIG).read_text())["bias"] == "none"
    assert all(".lora_" in key for key in load_file(tmp_path / WEIGHTS))


def test_lengths_of_some_layers_only(tmp_path: Path) -> None:
    adapter = collect(DoRA(rank=RANK)(vit()))
    fewer = dict(adapter.tensors)
    del fewer["blocks.1.mlp.fc1.magnitude"]
    with pytest.raises(AdaptationError, match=r"use_dora holds for all layers or none"):
        export_peft(replace(adapter, tensors=fewer), tmp_path / "peft")
    assert not (tmp_path / "peft").exists()


def test_exporting_again_replaces_both_files(tmp_path: Path) -> None:
    export_peft(moved(LoRA(rank=RANK, targets=["fc1"])(vit())), tmp_path)
    net = moved(SoRA(rank=RANK)(vit()))
    export_peft(net, tmp_path)
    assert difference(loaded(tmp_path), net) < 1e-5
    assert sorted(f.name for f in tmp_path.iterdir()) == [CONFIG, WEIGHTS]
    modes = {(tmp_path / name).stat().st_mode for name in (CONFIG, WEIGHTS)}
    assert len(modes) == 1, "others may read one file and not the other"


def test_a_failing_write_leaves_the_former_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half of it")
        raise store.SafetensorError("no space left on device")

    export_peft(moved(LoRA(rank=RANK)(vit())), tmp_path)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    monkeypatch.setattr(store, "save_file", fail)
    with pytest.raises(OSError, match=r"cannot write .*adapter_model\.safetensors: no space left"):
        export_peft(SoRA(rank=RANK)(vit()), tmp_path)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


def test_method_without_low_rank_layers(tmp_path: Path) -> None:
    with pytest.raises(AdaptationError, match=r"BitFit has no low-rank layers.*use save_adapter"):
        export_peft(moved(BitFit()(vit())), tmp_path / "peft")
    assert not (tmp_path / "peft").exists()


def test_attention_that_reads_its_weight(tmp_path: Path) -> None:
    """BEiT and EVA never call their fused layer; PEFT would adapt nothing."""
    name = "eva02_tiny_patch14_224"
    net = timm.create_model(name, img_size=28, depth=2, num_classes=0).eval()
    if not hasattr(net.blocks[1].attn, "q_bias") or net.blocks[1].attn.q_bias is None:
        net = timm.create_model("beit_base_patch16_224", img_size=32, depth=2, num_classes=0)
    adapted = SoRA(rank=RANK)(net)
    with pytest.raises(AdaptationError, match=r"reads its weight and does not call it"):
        export_peft(adapted, tmp_path / "peft")
    with pytest.raises(AdaptationError, match=r"reads its weight and does not call it"):
        export_peft(collect(adapted), tmp_path / "peft")
    assert not (tmp_path / "peft").exists()


# Import

THEIRS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "biases": {"bias": "lora_only"},
    "all biases": {"bias": "all"},
    "patterns": {
        "rank_pattern": {"fc1": 5, r"blocks\.2\.attn\.qkv": 7},
        "alpha_pattern": {"fc1": 9},
    },
    "rsLoRA, patterns": {"use_rslora": True, "rank_pattern": {"qkv": 6}, "bias": "all"},
    "DoRA, all of it": {
        "use_dora": True,
        "use_rslora": True,
        "rank_pattern": {"fc1": 5},
        "alpha_pattern": {"fc1": 9, "qkv": 2.5},
        "bias": "lora_only",
    },
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "one block": {"layers_to_transform": [1], "layers_pattern": "blocks"},
    "head": {"modules_to_save": ["head"]},
}


def theirs(**options: Any) -> nn.Module:
    defaults = {"r": 4, "lora_alpha": 6, "target_modules": ["qkv", "fc1", "fc2"]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return get_peft_model(vit(), LoraConfig(**{**defaults, **options})).eval()


@pytest.mark.parametrize("options", THEIRS.values(), ids=THEIRS)
def test_adapter_that_peft_wrote(options: dict[str, Any], tmp_path: Path) -> None:
    model = moved(theirs(**options))
    assert difference(model, vit()) > 0.01, "nothing to compare"
    model.save_pretrained(tmp_path)
    net = attach(vit(), import_peft(tmp_path))
    assert difference(net, model) < 1e-5
    assert difference(merge(net), model.merge_and_unload()) < 1e-5


def test_base_of_an_imported_adapter_is_not_checked(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = import_peft(folder)
    assert adapter.adaptation.fingerprint == ""
    with caplog.at_level(logging.WARNING, logger="sora_det"):
        net = attach(vit(), adapter)
    assert "LoRA adapter has no fingerprint: whether vit_tiny_patch16_224 is its" in caplog.text
    assert net.sora_adaptation.fingerprint


@recipes
def test_there_and_back(make: Callable[[], Recipe], tmp_path: Path) -> None:
    net = moved(make()(vit()))
    export_peft(net, tmp_path / "ours")
    loaded(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    again = attach(vit(), import_peft(tmp_path / "theirs"))
    assert difference(again, net) < 1e-5
    # From here on it is an adapter like any other, with a fingerprint.
    save_adapter(again, tmp_path / "adapter.safetensors")
    assert read_adapter(tmp_path / "adapter.safetensors").adaptation.fingerprint
    assert {n for n, _ in adapter_parameters(again)} <= {
        n for n, p in again.named_parameters() if p.requires_grad
    }


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_start_that_changed_the_base(start: str, tmp_path: Path) -> None:
    moved(theirs(init_lora_weights=start)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    if config["init_lora_weights"] is True:  # what PEFT writes may hide it
        pytest.fail("PEFT's config does not tell the start any more: read its weights otherwise")
    with pytest.raises(AdaptationError, match=r"changed the base weights\. Save it in PEFT with"):
        import_peft(tmp_path)


@pytest.mark.filterwarnings("ignore:PiSSA changes the base weights")
def test_pissa_that_peft_converted(tmp_path: Path) -> None:
    """As the message of the test above says."""
    model = theirs(init_lora_weights="pissa")
    model.peft_config["default"].init_lora_weights = True  # as PEFT's documentation asks for
    model.save_pretrained(tmp_path / "start")
    model.peft_config["default"].init_lora_weights = "pissa"
    moved(model)
    model.save_pretrained(
        tmp_path / "trained", path_initial_model_for_weight_conversion=str(tmp_path / "start")
    )
    net = attach(vit(), import_peft(tmp_path / "trained"))
    assert difference(net, model) < 1e-4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    moved(theirs()).save_pretrained(tmp_path / "peft")
    return tmp_path / "peft"


Edit = Callable[[dict[str, Any], dict[str, Tensor]], object]
KEY = "base_model.model.blocks.1.mlp.fc1.lora_{}.weight"
EDITS: dict[str, tuple[Edit, str]] = {
    "type": (lambda c, _: c.update(peft_type="LOHA"), "peft_type is 'LOHA', only LORA"),
    "start": (lambda c, _: c.update(init_lora_weights="novel"), "init_lora_weights='novel' has no"),
    "setting": (lambda c, _: c.update(fan_in_fan_out=True), "counterpart here: fan_in_fan_out="),
    "novel setting": (lambda c, _: c.update(novel={"a": 1}), "counterpart here: novel="),
    "rank": (lambda c, _: c.update(r=5), r"has rank 4, but adapter_config\.json says 5"),
    "pattern": (lambda c, _: c.update(rank_pattern={"(": 5}), "is no pattern"),
    "rank as text": (lambda c, _: c.update(r="four"), r"needs numbers .* not \{'r': 'four'\}"),
    "alpha": (lambda c, _: c.update(lora_alpha="six"), r"not \{'lora_alpha': 'six'\}"),
    "no rank": (lambda c, _: c.update(r=None), r"not \{'r': None\}"),
    "patterns as list": (lambda c, _: c.update(rank_pattern=[1]), r"rank_pattern=\[1\] is of no"),
    "alpha of a pattern": (
        lambda c, _: c.update(alpha_pattern={"fc1": "9"}),
        r"not \{'fc1': '9'\}",
    ),
    "negative alpha": (lambda c, _: c.update(lora_alpha=-1), r"not \{'lora_alpha': -1\}"),
    "infinite alpha": (lambda c, _: c.update(lora_alpha=torch.inf), r"not \{'lora_alpha': inf\}"),
    "alpha beyond floats": (lambda c, _: c.update(lora_alpha=10**400), r"not \{'lora_alpha': 1000"),
    "alpha that is no number": (
        lambda c, _: c.update(lora_alpha=torch.nan, alpha_pattern={".*": 4}),
        r"not \{'lora_alpha': nan\}",
    ),
    "alpha behind a pattern of its name": (
        lambda c, _: c.update(lora_alpha="six", alpha_pattern={"lora_alpha": 4}),
        r"not \{'lora_alpha': 'six'\}",
    ),
    "rank 0": (
        lambda c, t: (c.update(r=0), t.update({k: v[:0] for k, v in t.items() if "lora_A" in k})),
        r"not \{'r': 0\}",
    ),
    "pattern as number": (lambda c, _: c.update(alpha_pattern=3), "alpha_pattern=3 is of no kind"),
    "mapping": (lambda c, _: c.update(auto_mapping=["a"]), r"auto_mapping=\['a'\] is of no kind"),
    "base": (lambda c, _: c.update(base_model_name_or_path=3), "name_or_path=3 is of no kind"),
    "rsLoRA as text": (lambda c, _: c.update(use_rslora="false"), "use_rslora='false' is of no"),
    "DoRA as text": (lambda c, _: c.update(use_dora="no"), "use_dora='no' is of no kind"),
    "no B": (lambda _, t: t.pop(KEY.format("B")), "is no complete pair of lora_A and lora_B"),
    "no A": (lambda _, t: t.pop(KEY.format("A")), "has no counterpart here"),
    "shape": (lambda _, t: t.update({KEY.format("B"): torch.ones(192, 3)}), "do not fit"),
    "flat": (lambda _, t: t.update({KEY.format("A"): torch.ones(4)}), "is no complete pair"),
    "name": (lambda _, t: t.update({"blocks.1": torch.ones(4)}), "does not begin with base_model"),
    "nothing": (lambda _, t: t.clear(), "holds no lora_A of a Linear layer"),
    "no length": (lambda c, _: c.update(use_dora=True), "has no lora_magnitude_vector"),
    "length": (
        lambda _, t: t.update({KEY.format("magnitude_vector")[:-7]: torch.ones(192)}),
        "has a lora_magnitude_vector, but use_dora is False",
    ),
    "nan": (lambda _, t: t[KEY.format("A")].fill_(torch.nan), "NaN or infinity"),
}


@pytest.mark.parametrize(("edit", "match"), EDITS.values(), ids=EDITS)
def test_folder_that_cannot_be_read(edit: Edit, match: str, folder: Path) -> None:
    config, tensors = json.loads((folder / CONFIG).read_text()), load_file(folder / WEIGHTS)
    edit(config, tensors)
    (folder / CONFIG).write_text(json.dumps(config))
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(AdaptationError, match=match):
        import_peft(folder)


def test_files_that_are_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AdaptationError, match=r"holds no adapter_config\.json: give a folder"):
        import_peft(tmp_path)
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(AdaptationError, match=r"holds no .*safetensors: save with safe_serial"):
        import_peft(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "7", "null", "[" * 100_000], ids=lambda text: repr(text[:4])
)
def test_config_that_is_no_object(text: str, folder: Path) -> None:
    (folder / CONFIG).write_text(text)
    with pytest.raises(AdaptationError, match=r"adapter_config\.json is no JSON object"):
        import_peft(folder)


def test_truncated_weights(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    for kept in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        (folder / WEIGHTS).write_bytes(whole[:kept])
        with pytest.raises(AdaptationError, match="no complete safetensors file"):
            import_peft(folder)


OTHERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "IA3": (
        lambda: get_peft_model(
            vit(), IA3Config(target_modules=["qkv", "fc2"], feedforward_modules=["fc2"])
        ),
        "peft_type is 'IA3', only LORA can be read",
    ),
    "LoHa": (
        lambda: get_peft_model(vit(), LoHaConfig(target_modules=["qkv"])),
        "peft_type is 'LOHA', only LORA can be read",
    ),
    "convolution": (
        lambda: theirs(target_modules=["qkv", "proj"]),
        r"patch_embed\.proj .*of a Linear layer",
    ),
    "bias of lora_B": (lambda: theirs(lora_bias=True), "counterpart here: lora_bias=True"),
    "parameters": (
        lambda: theirs(target_modules=["qkv"], target_parameters=["blocks.1.mlp.fc1.weight"]),
        "counterpart here: target_parameters=",
    ),
    "MiCA": (lambda: theirs(init_lora_weights="mica"), "init_lora_weights='mica' has no count"),
}


@pytest.mark.filterwarnings("ignore:Adapter 'default'.* have invalid shape")
@pytest.mark.parametrize(("make", "match"), OTHERS.values(), ids=OTHERS)
def test_other_kinds_of_adapters(make: Callable[[], nn.Module], match: str, tmp_path: Path) -> None:
    moved(make()).save_pretrained(tmp_path)
    with pytest.raises(AdaptationError, match=match):
        import_peft(tmp_path)
