"""scripts/quickstart.py on a benchmark of a few images."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts import quickstart
from sora_det.backbones.weights import describe_file
from tests.tools.process import ROOT, Started
from tests.tools.tiny_run import OVERRIDES

Run = Callable[..., str]
FOLDERS = ("", "full", "frozen")  # of the runs of --compare
FEW_BOXES = (
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "model.proposal_generator.post_nms_topk=[20,20]",
)


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """Take back how the script sets up logging."""
    loggers = [logging.root, *map(logging.getLogger, quickstart.SHOWN)]
    before = [(logger.handlers[:], logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        for handler in {*logger.handlers} - {*handlers}:
            handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the script on few images, in a folder whose name a config override could not hold."""
    root = tmp_path / "a folder (1)"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(quickstart, "ROOT", root)
    monkeypatch.setattr(quickstart, "IMAGES", {"train": 4, "test": 2})

    def call(*arguments: str) -> str:
        given = ["quickstart.py", "--output-dir", str(root / "output"), *arguments]
        monkeypatch.setattr(sys, "argv", given)
        logging.root.handlers.clear()  # pytest's; with them, logging.basicConfig does nothing
        quickstart.main()
        return capsys.readouterr().out

    return call


def test_from_nothing_to_the_table(run: Run, tmp_path: Path) -> None:
    shown = run(*OVERRIDES, "train.max_iter=2")
    output = tmp_path / "a folder (1)" / "output"
    assert "\ntarget mean" in shown
    assert "started from random numbers" in shown
    assert f" minutes: {output}\nOpen {output / 'report.html'} in a browser." in shown
    assert "daytime-clear" in (output / "report.html").read_text()
    assert "iter: 1 " in shown  # the main lines of the log
    assert "Starting training from iteration" not in shown
    assert "Starting training from iteration" in (output / quickstart.LOG).read_text()
    results = json.loads((output / "results.json").read_text())
    assert results["run"]["random_init"] is True
    assert results["run"]["iteration"] == 2

    run(*OVERRIDES, "train.max_iter=1")  # in place of the first
    lines = (output / "metrics.json").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [0]


def test_it_starts_from_the_shipped_backbone(run: Run, tmp_path: Path) -> None:
    shown = run("train.max_iter=1", *FEW_BOXES)
    assert "Training SoRA for 1 iterations on clear days alone" in shown
    results = json.loads((tmp_path / "a folder (1)" / "output" / "results.json").read_text())
    assert results["run"]["weights"] == describe_file("toy_foundation")
    assert results["run"]["random_init"] is False


def test_methods_side_by_side(run: Run, tmp_path: Path) -> None:
    given = [line for line in OVERRIDES if not line.startswith("adaptation.")]
    shown = run("--compare", *given, "train.max_iter=1")
    output = tmp_path / "a folder (1)" / "output"
    for method in ("SoRA", "Full", "Frozen"):
        assert f"Training {method} for 1 iterations" in shown
    page = (output / "report.html").read_text()
    tables = [json.loads((output / name / "results.json").read_text()) for name in FOLDERS]
    for table in tables:
        assert table["run"]["method"] in shown
        assert table["run"]["method"] in page
    assert len({table["run"]["method"] for table in tables}) == 3


def test_other_folders_are_left_alone(run: Run, tmp_path: Path) -> None:
    treasure = tmp_path / "a folder (1)" / "output" / "log.txt"
    treasure.parent.mkdir(parents=True)
    treasure.write_text("of another run")
    with pytest.raises(FileExistsError, match="name another folder with --output-dir"):
        run()
    assert treasure.read_text() == "of another run"


def test_unknown_key_costs_nothing(run: Run, tmp_path: Path) -> None:
    earlier = tmp_path / "a folder (1)" / "output" / quickstart.LOG
    earlier.parent.mkdir(parents=True)
    earlier.write_text("of an earlier run")
    with pytest.raises(ValueError, match=r"the nearest is 'train\.max_iter'"):
        run("train.max_itre=1")
    assert earlier.is_file()
    assert not (tmp_path / "a folder (1)" / "datasets").exists()


def test_help(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "quickstart.py"
    ended = Started(script, "--help", folder=tmp_path / "says").wait()
    assert ended.code == 0
    assert "--output-dir" in ended.out
    assert "key=value" in ended.out
    assert ended.err == ""
