"""Every config of the project loads, survives YAML, and builds small and trains a step."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import default_argument_parser
from omegaconf import DictConfig

from sora_det.adapt import Frozen
from sora_det.backbones import vit
from sora_det.data.toy import write_toy
from sora_det.engine.config import load_config
from sora_det.engine.optim import roles
from sora_det.engine.train import fit, score
from tests.tools.tiny_codino import CONFIG, OVERRIDES, ROOT, sample, train_step
from tests.unit.test_imports import check_effects

RUNS = sorted(CONFIG.parent.glob("*.py"))
PAPER = CONFIG.parent / "dinov2_l_sora_codino_weather.py"
REFERENCE = CONFIG.parent / "dinov2_l_sora_codino_weather_reference.py"


def shrink(cfg: DictConfig) -> DictConfig:
    cfg.backbone.net = L(vit)(
        name="vit_tiny_patch16_224",
        random_init=True,
        img_size=64,
        depth=6,
        embed_dim=48,
        num_heads=3,
    )
    cfg.backbone.out_channels = 16
    if "rank" in cfg.adaptation:
        cfg.adaptation.rank, cfg.adaptation.start_file = 2, None
    else:
        cfg.adaptation = L(Frozen)()  # for want of a saved adapter
    cfg.benchmark.file = str(ROOT / "configs" / "benchmarks" / "diverse_weather.yaml")
    cfg.model.head.update(encoder_layers=1, decoder_layers=2, heads=4, hidden=8)
    cfg.model.head.checkpointed = min(cfg.model.head.checkpointed, 1)
    cfg.model.auxiliary[0].roi_heads.box_head.fc_dims = [8, 8]
    return cfg


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)
def test_run(file: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    cfg = load_config(file)
    assert cfg.train.output_dir == f"output/{file.stem}"
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    again = load_config(tmp_path / "config.yaml")
    assert again.train == cfg.train
    model = instantiate(shrink(again).model)
    losses = train_step(model, [sample(64, 96, [[8.0, 8.0, 40.0, 56.0]], [1])])
    assert torch.isfinite(sum(losses.values()))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    again.optimizer.params.model = model
    groups = instantiate(again.optimizer).param_groups
    assert sum(len(group["params"]) for group in groups) == len(trained)
    spared = roles(model, trunk=["backbone.net"], no_decay=again.optimizer.params.no_decay)
    assert spared["head.query_embed.weight"] == spared["head.level_embed"] == "no_decay"
    assert spared["head.encoder.layers.0.attention.value_proj.weight"] == "head"


def test_the_papers_setting() -> None:
    cfg = load_config(PAPER)
    head = cfg.model.head
    assert (head.queries, head.encoder_layers, head.decoder_layers, head.levels) == (900, 6, 6, 5)
    assert (head.hidden, head.heads, head.points, head.temperature) == (2048, 8, 4, 20)
    assert (cfg.train.max_iter, cfg.dataloader.train.total_batch_size) == (40_000, 8)
    assert cfg.train.clip_norm == 35
    assert (cfg.optimizer.params.rates.head.lr, cfg.optimizer.params.rates.adapter.lr) == (
        2e-4,
        1e-4,
    )
    assert (cfg.model.test_topk_per_image, cfg.model.soft_nms_iou) == (300, 0.8)


def test_only_the_reference_pads_beforehand() -> None:
    for file, padded in ((PAPER, False), (REFERENCE, True)):
        cfg = load_config(file)
        for part in (cfg.dataloader.train, cfg.dataloader.test):
            assert any("size" in a and "value" in a for a in part.augmentations) == padded
        assert cfg.model.reference_compat == padded
        assert (cfg.hooks.anneal.roles is None) == padded
        assert cfg.adaptation.start == ("official" if padded else "pretrained")


def test_a_run_from_training_to_table(toy: Path, tmp_path: Path) -> None:
    """Two steps, a checkpoint, and the same table of domains from it again."""
    known = [line for line in OVERRIDES if not line.startswith("benchmark.")]
    loaders: list[str] = []
    for part in ("train", "test"):
        loaders += [f"dataloader.{part}.augmentations.0.short_edge_length=64"]
        loaders += [f"dataloader.{part}.augmentations.0.max_size=64"]
        loaders += [f"dataloader.{part}.num_workers=0"]
    cfg = load_config(
        CONFIG,
        [
            *known,
            *loaders,
            f"benchmark.file={toy}",
            f"train.output_dir={tmp_path}",
            "train.max_iter=2",
            "train.evaluation.replicates=0",
            "model.test_score_thresh=0.0",
            "dataloader.train.total_batch_size=2",
        ],
    )
    torch.manual_seed(0)
    table = fit(cfg)
    assert [found.domain for found in table.scores][:2] == ["daytime-clear", "Night-Sunny"]
    assert table.protocol.max_detections == 300
    again = score(cfg)
    assert [s.ap50 for s in again.scores] == [s.ap50 for s in table.scores]


def test_importing_does_nothing() -> None:
    """No registry is touched, no environment read."""
    files = sorted((ROOT / "projects" / "codino").glob("*.py"))
    assert len(files) > 10
    assert [line for file in files for line in check_effects(file, ROOT)] == []


def commands() -> list[str]:
    """Return the README's indented commands, continued lines joined."""
    lines = (ROOT / "projects" / "codino" / "README.md").read_text().splitlines()
    block = "\n".join(line[4:] for line in lines if line.startswith("    "))
    return re.sub(r"\s*\\\n\s*", " ", block).splitlines()


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_readme(command: str) -> None:
    words = shlex.split(command.removeprefix("PYTHONPATH=. "))
    assert words[0] == "python"
    assert (ROOT / words[1]).is_file()
    if words[1].endswith("train_net.py"):
        args = default_argument_parser().parse_args(words[2:])
        assert load_config(ROOT / args.config_file, args.opts).model.head.queries == 900


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_the_toy_config_learns(tmp_path: Path) -> None:
    """A quarter of an hour on two idle cores: the loss halves, AP50 on the source reaches 20."""
    benchmark = write_toy(tmp_path / "toy_weather", train=400, test=100, size=256, workers=1)
    output = tmp_path / "output"
    overrides = [f"benchmark.file={benchmark}", f"train.output_dir={output}"]
    overrides += ["train.evaluation.replicates=0", "train.device=cpu", "train.log_period=1"]
    overrides += ["dataloader.train.num_workers=0", "dataloader.test.num_workers=0"]
    table = fit(load_config(CONFIG, overrides))
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    losses = [row["total_loss"] for row in rows if "total_loss" in row]
    assert sum(losses[-50:]) / 50 <= losses[0] / 2
    clear = table.scores[0]
    assert clear.domain == "daytime-clear"
    assert clear.ap50 is not None
    assert clear.ap50 >= 20
