import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import nn

from sora_det.adapt import SoRA, low_rank, split_minor
from sora_det.engine.optim import param_groups, roles

DATA = Path(__file__).parents[2] / "data" / "parity"
RATES = {
    "adapter": {"lr": 1e-4, "weight_decay": 0.01},
    "backbone_bias": {"lr": 1e-4, "weight_decay": 0.01},
    "backbone": {"lr": 1e-4, "weight_decay": 0.01},
    "no_decay": {"lr": 2e-4, "weight_decay": 0.0},
    "head": {"lr": 2e-4, "weight_decay": 0.05},
}
TRUNK = ("backbone.net",)
UNNAMED_NORMS = {"query_head.downsample.1"}  # GroupNorm of an nn.Sequential of the reference
SPARED = ("query_embed", "level_embeds")  # the reference's names for learned embeddings


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.net = nn.Module()
        self.backbone.net.norm = nn.LayerNorm(8)
        self.backbone.net.blocks = nn.ModuleList(
            nn.ModuleDict({"proj": nn.Linear(8, 8), "norm1": nn.LayerNorm(8)}) for _ in range(3)
        )
        self.neck = nn.Sequential(nn.Conv2d(8, 8, 1), nn.GroupNorm(2, 8), nn.BatchNorm2d(8))
        self.query_embed = nn.Embedding(3, 8)


def role_of(model: nn.Module) -> dict[str, str]:
    return dict(roles(model, trunk=TRUNK, no_decay=SPARED))


def test_roles_of_an_adapted_model() -> None:
    model = Detector()
    SoRA(rank=2, start_block=2)(model.backbone.net)
    assert role_of(model) == {
        "backbone.net.blocks.2.proj.up": "adapter",
        "backbone.net.blocks.2.proj.down": "adapter",
        "backbone.net.blocks.2.proj.bias": "backbone_bias",
        "neck.0.weight": "head",
        "neck.0.bias": "head",
        "neck.1.weight": "no_decay",
        "neck.1.bias": "no_decay",
        "neck.2.weight": "no_decay",
        "neck.2.bias": "no_decay",
        "query_embed.weight": "no_decay",
    }


def test_roles_of_full_fine_tuning() -> None:
    found = role_of(Detector())
    assert found["backbone.net.norm.weight"] == "backbone"
    assert found["backbone.net.blocks.0.proj.bias"] == "backbone_bias"
    assert "adapter" not in found.values()


def test_every_trained_parameter_is_in_one_group() -> None:
    model = Detector()
    SoRA(rank=2)(model.backbone.net)
    groups = param_groups(model, rates=RATES, trunk=TRUNK)
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert [group["role"] for group in groups] == ["adapter", "backbone_bias", "head", "no_decay"]
    assert all(group["initial_weight_decay"] == group["weight_decay"] for group in groups)


def test_missing_rates() -> None:
    with pytest.raises(ValueError, match="no rates for role 'backbone', only for"):
        param_groups(Detector(), rates={"head": RATES["head"]}, trunk=TRUNK)


def test_nothing_to_train() -> None:
    with pytest.raises(ValueError, match="every parameter of the model is frozen"):
        param_groups(Detector().requires_grad_(False), rates=RATES)


def tree(shapes: dict[str, list[int]], frozen: set[str], normed: set[str]) -> nn.Module:
    """Build a module that has the given parameters, of the types that their roles depend on."""
    root = nn.Module()
    for name, shape in shapes.items():
        if ".lora_" in name:
            continue  # comes with its layer
        *parents, last = name.removeprefix("backbone.").split(".")
        parents = ["backbone", *parents] if name.startswith("backbone.") else parents
        holder = root
        for depth, part in enumerate(parents):
            if not hasattr(holder, part):
                leaf = depth == len(parents) - 1
                norm = leaf and name.rpartition(".")[0] in normed
                holder.add_module(part, nn.LayerNorm(1) if norm else nn.Module())
            holder = getattr(holder, part)
        setattr(holder, last, nn.Parameter(torch.zeros(shape), requires_grad=name not in frozen))
    return root


def adapt(root: nn.Module, shapes: dict[str, list[int]]) -> None:
    """Replace the layers that have lora_A and lora_B by adapted ones."""
    for name, (rank, inner) in ((n, s) for n, s in shapes.items() if n.endswith("lora_A.weight")):
        layer = name.removesuffix(".lora_A.weight")
        rows = shapes[f"{layer}.lora_B.weight"][0]
        linear = nn.Linear(inner, rows, device="meta").to_empty(device="cpu")
        nn.init.ones_(linear.weight)
        root.set_submodule(layer, low_rank(linear, rank=min(rank, 1), start=split_minor))


REFERENCE_TRUNK = ("backbone.model",)


def ours(name: str) -> str:
    return name.replace("lora_A.weight", "down").replace("lora_B.weight", "up")


def settings(root: nn.Module) -> dict[str, tuple[float, float]]:
    groups = param_groups(root, rates=RATES, trunk=REFERENCE_TRUNK, no_decay=SPARED)
    name_of = {id(p): name for name, p in root.named_parameters()}
    return {
        name_of[id(p)]: (group["lr"], group["weight_decay"])
        for group in groups
        for p in group["params"]
    }


def normed_layers(names: Iterable[str]) -> set[str]:
    """Which layers of the reference are norms, by what they are called."""
    layers = {name.rpartition(".")[0] for name in names}
    return {n for n in layers if "norm" in n or n.endswith(".gn") or n in UNNAMED_NORMS}


def test_toy_model_of_the_reference() -> None:
    """Every parameter of the reference's toy tree gets the rates that its constructor gave it."""
    reference = json.loads((DATA / "optim_schedule.json").read_text())
    initial = reference["initial"]
    root = tree(reference["shapes"], set(reference["frozen_excluded"]), normed_layers(initial))
    adapt(root, reference["shapes"])
    want = {
        ours(n): (rates["base_lr"], pytest.approx(rates["weight_decay"]))
        for n, rates in initial.items()
    }
    assert settings(root) == want


def test_full_model_of_the_reference() -> None:
    """All 645 groups of the paper's model."""
    groups = json.loads((DATA / "official_param_groups.json").read_text())
    shapes = {g["name"]: [1] * len(g["shape"]) for g in groups}
    root = tree(shapes, set(), normed_layers(shapes))
    adapt(root, shapes)
    for layer in {g["name"].rpartition(".lora_")[0] for g in groups if ".lora_" in g["name"]}:
        root.get_submodule(layer).residual.requires_grad_(False)
    want = {ours(g["name"]): (g["lr"], pytest.approx(g["weight_decay"])) for g in groups}
    assert len(want) == 645
    assert settings(root) == want
