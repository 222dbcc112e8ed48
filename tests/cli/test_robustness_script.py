"""scripts/robustness.py as a user types it, in one process and in two."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sora_det.engine.train import build
from sora_det.evaluation.robustness import Cell, RobustnessTable
from tests.tools.process import ROOT, Ended, Started
from tests.tools.tiny_run import CONFIG, MANY_BOXES, overrides, tiny

SCRIPT = ROOT / "scripts" / "robustness.py"
FEW = ("--corruptions", "contrast,gaussian_noise", "--severities", "1,5", "--seed", "3")
SECONDS = 240  # until a hanging script is given up


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("robustness_script")


@pytest.fixture(scope="module")
def runs(toy: Path, folder: Path) -> dict[str, Ended]:
    """One process, two, and one with another seed where the first has been."""
    _, model = build(tiny(toy, folder / "unused"))
    checkpoint = folder / "trained.pth"
    torch.save({"model": model.state_dict()}, checkpoint)

    def started(name: str, *more: object) -> Started:
        output = folder / ("one" if name == "other seed" else name)
        arguments = (SCRIPT, "--config-file", CONFIG, "--checkpoint", checkpoint)
        arguments += ("--output", output, *FEW, *more)  # type: ignore[assignment]
        settings = overrides(toy, folder / "unused", *MANY_BOXES)
        says, no_gpu = folder / f"{name} says", {"CUDA_VISIBLE_DEVICES": ""}
        return Started(*map(str, arguments), *settings, folder=says, env=no_gpu)

    store = f"file://{folder / 'store'}"
    first = {
        "one": started("one", "--num-workers", 1),
        "two": started("two", "--num-gpus", 2, "--dist-url", store),
    }
    ended = {name: process.wait(SECONDS) for name, process in first.items()}
    return ended | {"other seed": started("other seed", "--seed", 4).wait(SECONDS)}


def table(folder: Path, name: str) -> RobustnessTable:
    text = (folder / name / "robustness" / "robustness.json").read_text()
    return RobustnessTable.from_json(text)


def scores(found: RobustnessTable) -> list[Cell]:
    return [replace(cell, seconds=0) for cell in found.cells]


def test_one_process(runs: dict[str, Ended], folder: Path) -> None:
    assert runs["one"].code == 0, runs["one"].err
    found = table(folder, "one")
    assert found.common == ("gaussian_noise", "contrast")
    assert (found.severities, found.settings.seed) == ((1, 5), 3)
    assert (found.run.config, found.run.checkpoint) == ("toy_sora_frcnn", "trained.pth")
    assert "clean images (3) took" in runs["one"].out
    assert "4 are left, about" in runs["one"].out
    assert found.to_text() in runs["one"].out
    assert "\r" not in runs["one"].err  # no bar in a log


def test_files(runs: dict[str, Ended], folder: Path) -> None:
    names = {file.name for file in (folder / "one" / "robustness").iterdir()}
    assert names == {"cells", "robustness.json", "robustness.md", "log.txt"}
    assert not (folder / "unused" / "config.yaml").exists()  # the run's own is left alone


def test_two_processes_find_the_same(runs: dict[str, Ended], folder: Path) -> None:
    assert runs["two"].code == 0, runs["two"].err
    one, two = table(folder, "one"), table(folder, "two")
    assert [(c.corruption, c.severity) for c in two.cells] == [
        (c.corruption, c.severity) for c in one.cells
    ]
    for a, b in zip(scores(one), scores(two), strict=True):
        assert a.ap50 == pytest.approx(b.ap50, abs=1e-9)
        assert a.coco_ap == pytest.approx(b.coco_ap, abs=1e-9)


def test_cells_of_another_seed_are_refused_in_the_last_line(runs: dict[str, Ended]) -> None:
    ended = runs["other seed"]
    assert ended.code == 1
    last = ended.err.splitlines()[-1]
    assert last.startswith("error: 4 cells in ")
    assert "different: corruptions seed" in last
    assert "Traceback" not in ended.err


def here(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    """Run the script, which ends early, without another process; return what it exits with."""
    # Its handlers and what it keeps from propagating would outlast the test.
    monkeypatch.setattr("detectron2.utils.logger.setup_logger", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return ended.value.code


def test_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert here(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    for text in ("--config-file", "--corruptions", "--severities", "--redo", "key=value"):
        assert text in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config-file", ""), "error: no config file given"),
        (("--corruptions", "fogg"), "error: no corruption 'fogg'; did you mean fog"),
        (
            ("--severities", "1,x"),
            "error: severities are whole numbers, 1,3,5 for example",
        ),
        (("--severities", "6"), "error: severity must be a whole number from 1 to 5, got 6"),
        (("--frost-textures", "no/where"), "error: no PNG or JPEG file with a texture of frost"),
        (("--checkpoint", "no/where.pth"), "error: no checkpoint at no/where.pth"),
    ],
)
def test_wrong_arguments(
    monkeypatch: pytest.MonkeyPatch,
    toy: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    settings = overrides(toy, tmp_path / "run")
    code = here(monkeypatch, "--config-file", CONFIG, *arguments, *settings)
    assert str(code).startswith(message)
