"""Weights first, then the decomposition: from a weights file and a config to the training."""

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L
from safetensors.torch import load_file, save_file
from torch import Tensor

from sora_det.backbones import vit
from sora_det.engine.train import fit
from tests.integration.watch import Watch
from tests.tools.tiny_run import tiny

RANK = 3
ALPHA = 6  # so that the scale is not 1
LAYERS = [
    f"blocks.{block}.{layer}"
    for block in (4, 5)
    for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for a pretrained ViT: other numbers than those a new one starts with."""
    torch.manual_seed(1)
    net = vit(
        "vit_tiny_patch16_224",
        random_init=True,
        patch_size=16,
        img_size=64,
        depth=6,
        embed_dim=48,
        num_heads=3,
    )
    file = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(net.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def start(toy: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The detector's tensors right before its first training step."""
    cfg = tiny(
        toy,
        tmp_path_factory.mktemp("order"),
        f"backbone.net.weights={weights}",
        "backbone.net.random_init=false",
        f"adaptation.rank={RANK}",
        f"adaptation.alpha={ALPHA}",
        "adaptation.start_block=4",
        "train.max_iter=1",
    )
    cfg.hooks.watch = L(Watch)()
    table = fit(cfg)
    assert not table.run.random_init
    assert table.run.weights.startswith("vit.safetensors (sha256 ")
    prefix = "backbone.net."
    before = Watch.last.before
    return {n.removeprefix(prefix): t for n, t in before.items() if n.startswith(prefix)}


def delta(start: dict[str, Tensor], layer: str) -> Tensor:
    """Return the low-rank term (out, in) of an adapted layer."""
    return (ALPHA / RANK) * (start[f"{layer}.up"] @ start[f"{layer}.down"]).flatten(0, 1)


@pytest.mark.parametrize("layer", LAYERS)
def test_adapted_layer_starts_as_the_file_says(
    start: dict[str, Tensor], weights: Path, layer: str
) -> None:
    file = load_file(weights)
    want = file[f"{layer}.weight"]
    torch.testing.assert_close(start[f"{layer}.residual"] + delta(start, layer), want)
    torch.testing.assert_close(start[f"{layer}.bias"], file[f"{layer}.bias"], rtol=0, atol=0)


@pytest.mark.parametrize("layer", LAYERS)
def test_what_trains_is_the_minor_part_of_the_file(
    start: dict[str, Tensor], weights: Path, layer: str
) -> None:
    parts = 3 if layer.endswith("qkv") else 1
    minor = []
    for weight in load_file(weights)[f"{layer}.weight"].double().chunk(parts):
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)  # s descends
        minor.append(u[:, -RANK:] * s[-RANK:] @ vh[-RANK:])
    torch.testing.assert_close(delta(start, layer).double(), torch.cat(minor), rtol=0, atol=1e-5)
    assert torch.cat(minor).abs().max() > 5e-4  # the tolerance tells it from another's minor part


def test_all_else_is_the_file_itself(start: dict[str, Tensor], weights: Path) -> None:
    kept = {n: t for n, t in load_file(weights).items() if n.rpartition(".")[0] not in LAYERS}
    parts = ("residual", "up", "down", "up0", "down0", "bias")
    adapted = {f"{layer}.{part}" for layer in LAYERS for part in parts}
    assert start.keys() == kept.keys() | adapted
    for name, value in kept.items():
        torch.testing.assert_close(start[name], value, rtol=0, atol=0)
