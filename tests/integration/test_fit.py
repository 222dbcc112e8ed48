"""One short run from config to table, looked at from all sides."""

import gc
import json
import shutil
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf

from sora_det.adapt import load_adapter, read_header
from sora_det.engine import train as train_module
from sora_det.engine.hooks import cosine
from sora_det.engine.train import fit, score
from sora_det.evaluation import DomainTable
from tests.integration.watch import Bring, Watch
from tests.tools.tiny_run import MANY_BOXES, tiny

ITERATIONS = 3


@dataclass(frozen=True)
class Run:
    cfg: DictConfig
    output: Path
    watch: Watch
    table: DomainTable


@pytest.fixture(scope="module")
def run(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three iterations with a validation, the target domains out of reach until they end."""
    tmp = tmp_path_factory.mktemp("fit")
    data, aside, output = tmp / "data", tmp / "aside", tmp / "output"
    shutil.copytree(toy.parent, data)
    aside.mkdir()
    for folder in data.iterdir():
        if folder.is_dir() and folder.name != "daytime_clear":
            folder.rename(aside / folder.name)
    assert len(list(aside.iterdir())) == 4
    settings = [f"train.max_iter={ITERATIONS}", "train.eval_period=2", *MANY_BOXES]
    cfg = tiny(data / toy.name, output, *settings)
    cfg.hooks.watch = L(Watch)()
    cfg.hooks.bring = L(Bring)(aside=str(aside), place=str(data))
    table = fit(cfg, name="tiny")
    return Run(cfg, output, Watch.last, table)


def metrics(run: Run) -> Iterator[dict[str, Any]]:
    lines = (run.output / "metrics.json").read_text().splitlines()
    return map(json.loads, lines)


def test_only_adapters_biases_neck_and_heads_move(run: Run) -> None:
    before, after, roles = run.watch.before, run.watch.after, run.watch.roles
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == set(roles)  # frozen tensors and buffers are bit-equal


def test_what_trains(run: Run) -> None:
    roles = run.watch.roles
    found = {name.split(".blocks.")[0] for name in roles if name.startswith("backbone.net.")}
    assert found == {"backbone.net"}  # blocks only: no patch or position embedding, no norm
    kinds = {name.rpartition(".")[2]: role for name, role in roles.items() if ".blocks." in name}
    assert kinds == {"up": "adapter", "down": "adapter", "bias": "backbone_bias"}
    others = {name.split(".")[0] for name in roles if ".blocks." not in name}
    assert others == {"backbone", "proposal_generator", "roi_heads"}
    assert any(name.startswith("backbone.neck.") for name in roles)
    residuals = [name for name in run.watch.before if name.endswith(".residual")]
    assert len(residuals) == 6 * 4
    assert not set(residuals) & set(roles)


def test_adapter_file_holds_what_the_backbone_has_learnt(run: Run) -> None:
    file = run.output / "adapter.safetensors"
    header = read_header(file)
    assert (header["method"], header["start_block"]) == ("SoRA", 0)
    assert file.stat().st_size < 0.5 * (run.output / "model_final.pth").stat().st_size
    torch.manual_seed(0)  # the same untrained network again
    net = load_adapter(instantiate(run.cfg.backbone).net, file)
    trained = torch.load(run.output / "model_final.pth", weights_only=True)["model"]
    layers = {name for name, _ in net.named_parameters() if name.endswith((".up", ".down"))}
    assert len(layers) == 6 * 4 * 2
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, trained[f"backbone.net.{name}"], msg=name)


def test_results_say_what_was_run(run: Run) -> None:
    text = (run.output / "results.json").read_text()
    assert DomainTable.from_json(text) == run.table
    written = json.loads(text)
    about = written["run"]
    assert (about["config"], about["seed"], about["iteration"]) == ("tiny", 0, ITERATIONS)
    assert about["random_init"] is True
    assert about["weights"] == "random initialisation"
    assert about["method"].startswith("SoRA(rank=2")
    assert about["trainable"] < about["parameters"]
    protocol = written["protocol"]
    assert (protocol["iou"], protocol["interpolation"]) == (0.5, "11point")
    assert [split["domain"] for split in protocol["splits"]] == [
        "daytime-clear",
        "Night-Sunny",
        "dusk-rainy",
        "night-rainy",
        "daytime-foggy",
    ]
    assert {split["images"] for split in protocol["splits"]} == {3}
    markdown = (run.output / "results.md").read_text()
    assert "target mean" in markdown
    assert "started from random numbers" in markdown


def test_rates_in_the_metrics(run: Run) -> None:
    rows = [row for row in metrics(run) if "weight_decay/adapter" in row]
    assert [row["iteration"] for row in rows] == list(range(ITERATIONS))
    for i, row in enumerate(rows):
        assert row["weight_decay/adapter"] == pytest.approx(cosine(0.01, 1e-5, i / ITERATIONS))
        assert row["weight_decay/head"] == 0.05
        assert row["weight_decay/backbone_bias"] == 0.01
        assert row["weight_decay/no_decay"] == 0.0
        used = run.watch.rates[i]
        assert {role: row[f"lr/{role}"] for role in used} == {r: lr for r, (lr, _) in used.items()}
        assert {"total_loss", "loss_cls", "loss_rpn_cls", "grad_norm"} <= row.keys()
    decays = [row["weight_decay/adapter"] for row in rows]
    assert decays == sorted(decays, reverse=True)
    assert len(set(decays)) == ITERATIONS


def test_validation_during_training_needs_no_target(run: Run) -> None:
    """The fixture hid the targets; the validation took place all the same."""
    rows = [row for row in metrics(run) if "validation/AP50" in row]
    assert [row["iteration"] for row in rows] == [1]
    assert list(run.output.glob("events.out.tfevents.*"))


def test_scoring_alone_repeats_the_table(run: Run) -> None:
    assert any(s.coco_ap for s in run.table.scores), "nothing found: the comparison shows nothing"
    torch.manual_seed(1)  # what the checkpoint does not bring must not matter
    assert score(run.cfg, name="tiny") == run.table


def test_scoring_the_source_alone(run: Run, tmp_path: Path) -> None:
    cfg = run.cfg.copy()
    cfg.train.output_dir = str(tmp_path)
    cfg.train.init_checkpoint = str(run.output / "model_final.pth")
    table = score(cfg, domains="source")
    assert table.scores == run.table.scores[:1]
    assert table.run.iteration == ITERATIONS


def test_scoring_without_a_checkpoint_says_so(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = run.cfg.copy()
    cfg.train.output_dir = str(tmp_path)
    assert score(cfg, domains="source").run.iteration == 0
    assert "no checkpoint: the detector is scored untrained" in caplog.text


def test_checkpoint_holds_plain_types(run: Run) -> None:
    saved = torch.load(run.output / "model_final.pth", weights_only=True)
    assert saved["trainer"]["iteration"] == ITERATIONS - 1
    assert {group["role"] for group in saved["trainer"]["optimizer"]["param_groups"]} == {
        "adapter",
        "backbone_bias",
        "head",
        "no_decay",
    }


def test_config_is_left_as_it_was(run: Run, toy: Path) -> None:
    """One config serves several calls, and its checksum stays the same."""
    cfg = tiny(toy, run.output)
    before = OmegaConf.to_yaml(cfg)
    score(cfg, domains="source")
    assert OmegaConf.to_yaml(cfg) == before


def test_trainer_is_gone_afterwards(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without garbage collection, so that loader workers and DDP end when `fit` does."""
    kept = []

    class Kept(train_module.Trainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            kept.append(weakref.ref(self))

        def train(self, start_iter: int, max_iter: int) -> None:
            gc.disable()  # from here on, so that the test takes no memory
            super().train(start_iter, max_iter)

    monkeypatch.setattr(train_module, "Trainer", Kept)
    try:
        fit(tiny(toy, tmp_path, "train.max_iter=1"))
    finally:
        gc.enable()
    assert kept[0]() is None


def test_output_folder_is_made(toy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    fit(tiny(toy, folder, "train.max_iter=1"))
    assert (folder / "results.json").is_file()
