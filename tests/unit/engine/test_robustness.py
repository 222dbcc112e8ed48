"""Robustness runs of a tiny detector: cells, going on, and what is refused."""

import io
import json
import logging
import re
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import build_detection_test_loader
from omegaconf import DictConfig

from sora_det.data import test_loader as load_test_images
from sora_det.data.corruptions import Corruption
from sora_det.engine import robustness
from sora_det.engine.robustness import measure_robustness
from sora_det.engine.robustness_cells import config_sha256, weights_sha256
from sora_det.engine.train import build
from sora_det.evaluation.robustness import Cell, RobustnessTable
from sora_det.evaluation.run import evaluate
from sora_det.evaluation.scoring import Extras
from tests.tools.tiny_run import MANY_BOXES, tiny

FEW: dict[str, Any] = {"corruptions": ("contrast", "gaussian_noise"), "severities": (1, 5)}
SOURCE = "daytime-clear"


@pytest.fixture(scope="module")
def checkpoint(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of an untrained detector, whose boxes are many enough to find something."""
    folder = tmp_path_factory.mktemp("robustness")
    _, model = build(tiny(toy, folder))
    file = folder / "model.pth"
    torch.save({"model": model.state_dict()}, file)
    return file


@pytest.fixture
def cfg(toy: Path, checkpoint: Path, tmp_path: Path) -> DictConfig:
    settings = (*MANY_BOXES, f"train.init_checkpoint={checkpoint}")
    return tiny(toy, tmp_path / "run", *settings)


def scores(table: RobustnessTable) -> list[Cell]:
    return [replace(cell, seconds=0) for cell in table.cells]


def evaluated(monkeypatch: pytest.MonkeyPatch, fail_at: int = -1) -> list[str]:
    """Note the domain of every evaluation from now on; stop before number `fail_at`."""
    seen: list[str] = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        if len(seen) == fail_at:
            raise KeyboardInterrupt
        seen.append(*kwargs["domains"])
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(robustness, "evaluate", watched)
    return seen


def test_files_and_counts(cfg: DictConfig, toy: Path) -> None:
    table = measure_robustness(cfg, name="tiny", **FEW)
    folder = Path(cfg.train.output_dir) / "robustness"
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    names = [f"{name}-{s}" for name in FEW["corruptions"] for s in FEW["severities"]]
    cells = {f"cells/{SOURCE}/{name}.json" for name in ("clean", *names)}
    assert files == {"robustness.json", "robustness.md", *cells}
    assert RobustnessTable.from_json((folder / "robustness.json").read_text()) == table
    assert table.domains == (SOURCE,)
    assert table.common == ("gaussian_noise", "contrast")  # the benchmark's order
    assert {cell.images for cell in table.cells} == {3}
    assert (table.run.config, table.run.checkpoint) == ("tiny", "model.pth")
    assert table.protocol.splits[0].sha256
    assert table.settings.frost == "drawn"


def test_scores_are_those_of_corrupted_images(cfg: DictConfig) -> None:
    table = measure_robustness(cfg, **FEW, seed=2)
    benchmark, model = build(cfg)
    weights = torch.load(cfg.train.init_checkpoint, weights_only=True)["model"]
    model.load_state_dict(weights)
    augmentations = [instantiate(node) for node in cfg.dataloader.test.augmentations]
    found = []
    for change in (None, Corruption("gaussian_noise", 5, seed=2)):
        loader = partial(
            load_test_images, augmentations=augmentations, num_workers=0, change=change
        )
        domain = evaluate(
            model,
            benchmark,
            domains=[SOURCE],
            loader=lambda name, own=loader: own(dataset_name=name),
            extras=Extras(replicates=0),
        ).scores[0]
        found.append(domain.ap50)
    assert found == [
        table.score(SOURCE, metric="ap50"),
        table.score(SOURCE, "gaussian_noise", 5, "ap50"),
    ]
    assert found[0] != found[1]


def test_workers_do_not_matter(cfg: DictConfig, tmp_path: Path) -> None:
    one = measure_robustness(cfg, **FEW)
    cfg.dataloader.test.num_workers = 2
    cfg.train.output_dir = str(tmp_path / "other")
    assert scores(measure_robustness(cfg, **FEW)) == scores(one)


def test_a_stopped_run_goes_on(cfg: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluated(monkeypatch, fail_at=3)
    with pytest.raises(KeyboardInterrupt):
        measure_robustness(cfg, **FEW)
    assert len(first) == 3
    second = evaluated(monkeypatch)
    table = measure_robustness(cfg, **FEW)
    assert len(second) == 5 - 3
    assert evaluated(monkeypatch) == []
    assert measure_robustness(cfg, **FEW) == table
    third = evaluated(monkeypatch)
    more = measure_robustness(cfg, corruptions=(*FEW["corruptions"], "fog"), severities=(1, 5))
    assert len(third) == 2
    assert more.score(SOURCE, "contrast", 5) == table.score(SOURCE, "contrast", 5)


def test_several_domains(cfg: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = evaluated(monkeypatch)
    table = measure_robustness(
        cfg, domains=["dusk-rainy", SOURCE], corruptions=["contrast"], severities=[2]
    )
    assert seen == [SOURCE, "dusk-rainy", SOURCE, "dusk-rainy"]  # clean ones first
    assert table.domains == (SOURCE, "dusk-rainy")
    assert len(table.protocol.splits) == 2


def test_cells_of_something_else_are_refused(
    cfg: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = measure_robustness(cfg, **FEW)
    message = r"4 cells in .* are of something else, .*different: corruptions seed.*--redo"
    with pytest.raises(ValueError, match=message):
        measure_robustness(cfg, **FEW, seed=1)
    seen = evaluated(monkeypatch)
    after = measure_robustness(cfg, **FEW, seed=1, redo=True)
    assert len(seen) == 4  # clean images have no seed
    assert scores(after) != scores(before)
    assert after.settings.seed == 1
    cfg.model.roi_heads.box_predictor.test_score_thresh = 0.5
    with pytest.raises(ValueError, match=r"5 cells in .* \(different: config"):
        measure_robustness(cfg, **FEW, seed=1)


def test_another_model_is_something_else(cfg: DictConfig, checkpoint: Path, tmp_path: Path) -> None:
    measure_robustness(cfg, corruptions=["contrast"], severities=[1])
    weights = torch.load(checkpoint, weights_only=True)
    weights["model"]["roi_heads.box_predictor.cls_score.bias"] += 0.01
    cfg.train.init_checkpoint = str(tmp_path / "model.pth")  # of the same name
    torch.save(weights, cfg.train.init_checkpoint)
    with pytest.raises(ValueError, match=r"2 cells .* \(different: weights\)"):
        measure_robustness(cfg, corruptions=["contrast"], severities=[1])


def test_other_data_are_something_else(toy: Path, cfg: DictConfig, tmp_path: Path) -> None:
    few: dict[str, Any] = {"corruptions": ["contrast"], "severities": [1]}
    shutil.copytree(toy.parent, tmp_path / "data")
    cfg.benchmark.file = str(tmp_path / "data" / toy.name)
    measure_robustness(cfg, **few)
    folder = tmp_path / "data" / "daytime_clear" / "VOC2007"
    stem = (folder / "ImageSets" / "Main" / "test.txt").read_text().split()[0]
    file = folder / "Annotations" / f"{stem}.xml"
    left = re.sub("<object>.*?</object>", "", file.read_text(), count=1, flags=re.DOTALL)
    file.write_text(left)
    with pytest.raises(ValueError, match=r"2 cells .* \(different: data\)"):
        measure_robustness(cfg, **few)


def test_a_file_that_is_no_cell_is_named(cfg: DictConfig) -> None:
    file = Path(cfg.train.output_dir) / "robustness" / "cells" / SOURCE / "clean.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"format": ')
    with pytest.raises(ValueError, match=r"clean\.json is no cell of a robustness run, delete it"):
        measure_robustness(cfg, **FEW)


def test_another_protocol_is_refused(cfg: DictConfig) -> None:
    few: dict[str, Any] = {"corruptions": ["contrast"], "severities": [1]}
    measure_robustness(cfg, **few)
    file = Path(cfg.train.output_dir) / "robustness" / "cells" / SOURCE / "contrast-1.json"
    document = json.loads(file.read_text())
    document["protocol"]["iou"] = 0.75  # as if an earlier release had written it
    file.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"contrast-1\.json was scored by another protocol \(iou"):
        measure_robustness(cfg, **few)


def test_own_frost(cfg: DictConfig, tmp_path: Path) -> None:
    few: dict[str, Any] = {"corruptions": ["frost"], "severities": [5]}
    drawn = measure_robustness(cfg, **few)
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    cv2.imwrite(str(photographs / "a.png"), np.full((20, 30, 3), 255, np.uint8))
    with pytest.raises(ValueError, match=r"1 cells .* \(different: corruptions frost\)"):
        measure_robustness(cfg, **few, frost_textures=photographs)
    own = measure_robustness(cfg, **few, frost_textures=photographs, redo=True)
    assert re.fullmatch("[0-9a-f]{64}", own.settings.frost)
    assert scores(own) != scores(drawn)


def test_time_is_foretold(cfg: DictConfig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="sora_det"):
        measure_robustness(cfg, **FEW)
        measure_robustness(cfg, **FEW)
    said = [r.getMessage() for r in caplog.records if "clean images (3) took" in r.getMessage()]
    assert re.search(r"0 cells were done before, 4 are left, about \d+ s$", said[0])
    assert re.search(r"4 cells were done before, none is left$", said[1])


def test_progress_on_a_terminal(cfg: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    measure_robustness(cfg, **FEW)
    assert re.search(r"4/4 \[\d\d:\d\d<\d\d:\d\d", terminal.getvalue())


# --- keys ---------------------------------------------------------------------------------------


def test_the_config_matters_where_scores_can_move(cfg: DictConfig) -> None:
    before = config_sha256(cfg)
    cfg.train.output_dir = "elsewhere"
    cfg.dataloader.test.num_workers = 7
    cfg.dataloader.train.total_batch_size = 1
    assert config_sha256(cfg) == before
    cfg.dataloader.test.augmentations[0].short_edge_length = 32
    assert config_sha256(cfg) != before


def test_every_weight_matters() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    before = weights_sha256(model)
    assert weights_sha256(model) == before
    with torch.no_grad():
        model[1].running_mean[1] += 1e-6  # type: ignore[index, operator]
    assert weights_sha256(model) != before
    model.to(torch.bfloat16)
    assert len(weights_sha256(model)) == 64


# --- what is refused before a detector is built -------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"corruptions": ["fgo"]}, "no corruption 'fgo'; did you mean fog"),
        ({"corruptions": []}, "at least one corruption and one severity"),
        ({"severities": [0, 1]}, "severity must be a whole number from 1 to 5, got 0"),
        ({"severities": []}, "at least one corruption and one severity"),
        ({"seed": -1}, "seed of the corruptions must be a whole number from 0, got -1"),
        ({"frost_textures": "no/where"}, "no PNG or JPEG file with a texture of frost in no/where"),
    ],
)
def test_wrong_arguments(
    cfg: DictConfig, wrong: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(robustness, "build")
    with pytest.raises(ValueError, match=re.escape(message)):
        measure_robustness(cfg, **wrong)


def test_unknown_domains(cfg: DictConfig) -> None:
    with pytest.raises(ValueError, match=r"domains must be source, all or some of .*'sun'"):
        measure_robustness(cfg, domains=["sun"])


def test_a_loader_that_cannot_corrupt(cfg: DictConfig) -> None:
    cfg.dataloader.test = L(build_detection_test_loader)(dataset=None, mapper=None)
    with pytest.raises(ValueError, match="no argument `change`"):
        measure_robustness(cfg)
