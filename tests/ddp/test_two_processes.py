"""The training script in two processes on a CPU, started in every way, and after a crash."""

import json
from pathlib import Path

import pytest
import torch

from sora_det.engine.train import score
from sora_det.evaluation import DomainTable
from tests.ddp.faults import write_config
from tests.tools.process import ROOT, Ended, Started
from tests.tools.tiny_run import CONFIG, MANY_BOXES, overrides, tiny

SECONDS = 240  # until a hanging test is given up
TRAIN = ("scripts/train_net.py", "--config-file")
SETTINGS = ("train.max_iter=2", "train.eval_period=1", "train.checkpoint_period=1", *MANY_BOXES)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1")
WAYS = ["launch", "torchrun"]
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ddp")


@pytest.fixture(scope="module")
def runs(toy: Path, folder: Path) -> dict[str, Ended]:
    """The training script in two processes at once: by `launch`, by torchrun, and wrongly.

    One of torchrun's processes is killed at the second step, and torchrun starts them again.
    """

    def started(name: str, *arguments: object, more: tuple[str, ...] = ()) -> Started:
        settings = overrides(toy, folder / name, *SETTINGS, *more)
        says = folder / f"{name} says"
        return Started(*map(str, arguments), *settings, folder=says, env=dict(ENVIRONMENT))

    two = ("--num-gpus", 2)
    faulty = write_config(folder / "faulty", "killed", at=1)
    processes = {
        "launch": started("launch", *TRAIN, CONFIG, *two),
        "torchrun": started("torchrun", *TORCHRUN, *TRAIN, faulty, "--resume"),
        "wrong": started(
            "wrong", *TRAIN, CONFIG, *two, more=("dataloader.train.total_batch_size=3",)
        ),
    }
    return {name: process.wait(SECONDS) for name, process in processes.items()}


@pytest.mark.parametrize("way", WAYS)
def test_training_in_two_processes(runs: dict[str, Ended], folder: Path, way: str) -> None:
    starts = {"launch": 1, "torchrun": 2}[way]
    assert runs[way].code == 0, runs[way].err
    if starts == 1:  # of two, the process that was not killed may or may not have time for one
        assert "Traceback" not in runs[way].err
    assert "FutureWarning" not in runs[way].err
    assert runs[way].out.count("Starting training from iteration") == starts
    assert runs[way].out.count("worst target") == 1
    output = folder / way
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    assert [row["iteration"] for row in rows if "total_loss" in row] == [0, 1]
    assert [row["iteration"] for row in rows if "validation/AP50" in row] == [0]
    assert len(list(output.glob("events.out.tfevents.*"))) == starts
    assert "World size: 2" in (output / "log.txt").read_text()
    assert (output / "log.txt.rank1").is_file()


@pytest.mark.parametrize("way", WAYS)
def test_table_equals_that_of_one_process(
    runs: dict[str, Ended], toy: Path, folder: Path, way: str
) -> None:
    table = DomainTable.from_json((folder / way / "results.json").read_text())
    alone = score(tiny(toy, folder / way, *SETTINGS))
    assert table.scores == alone.scores
    assert table.protocol == alone.protocol
    assert any(s.coco_ap for s in table.scores), "nothing found: the comparison shows nothing"


def test_both_ways_agree(runs: dict[str, Ended], folder: Path) -> None:
    """A run that was started again, too; sums of two numbers know no order."""
    launch, torchrun = (torch.load(folder / way / "model_final.pth")["model"] for way in WAYS)
    for name, value in launch.items():
        assert torch.equal(torchrun[name], value), name


def test_batch_that_cannot_be_shared_out(runs: dict[str, Ended]) -> None:
    assert runs["wrong"].code == 1
    lines = runs["wrong"].err.splitlines()
    assert "error: total_batch_size must be a multiple of the 2 processes, got 3" in lines
    assert "Traceback" not in runs["wrong"].err
