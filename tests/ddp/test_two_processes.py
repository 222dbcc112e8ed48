"""Two processes on a CPU train what one would, and tell one story about it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from sora_det.engine.train import score
from sora_det.evaluation import DomainTable
from tests.ddp.work import IMAGES, STEPS, steps, untrained, work
from tests.tools.mean_square import MeanSquare, batches
from tests.tools.process import Ended, Started
from tests.tools.tiny_run import CONFIG, MANY_BOXES, overrides, tiny

SECONDS = 240  # until a hanging test is given up
TRAIN = ("scripts/train_net.py", "--config-file", CONFIG)
SETTINGS = ("train.max_iter=2", "train.eval_period=1", *MANY_BOXES)
WAYS = ["launch", "torchrun"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ddp")


@pytest.fixture(scope="module")
def runs(toy: Path, folder: Path) -> dict[str, Ended]:
    """The training script in two processes, started in both ways and in a wrong one, at once."""

    def started(name: str, *command: object, more: tuple[str, ...] = ()) -> Started:
        settings = overrides(toy, folder / name, *SETTINGS, *more)
        no_gpu = {"CUDA_VISIBLE_DEVICES": ""}
        says = folder / f"{name} says"
        return Started(*map(str, command), *settings, folder=says, env=no_gpu)

    two = ("--num-gpus", 2, "--dist-url")
    processes = {
        "launch": started("launch", *TRAIN, *two, f"file://{folder / 'store'}"),
        "torchrun": started(
            "torchrun", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *TRAIN
        ),
        "wrong": started(
            "wrong",
            *TRAIN,
            *two,
            f"file://{folder / 'store of wrong'}",
            more=("dataloader.train.total_batch_size=3",),
        ),
    }
    return {name: process.wait(SECONDS) for name, process in processes.items()}


@pytest.fixture(scope="module")
def found(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes report of training MeanSquare and of scoring an untrained detector."""
    folder = tmp_path_factory.mktemp("trainer")
    context = mp.start_processes(work, (folder, toy), nprocs=2, join=False)
    end = time.monotonic() + SECONDS
    while not context.join(timeout=5):
        if time.monotonic() > end:
            for process in context.processes:
                process.kill()
            pytest.fail(f"no end after {SECONDS} s")
    return [torch.load(folder / f"found{rank}.pth") for rank in (0, 1)]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_equal_those_of_one_process(found: list[dict[str, Any]], accumulate: int) -> None:
    alone = steps(MeanSquare(), batches(STEPS, IMAGES))
    assert len(set(alone["losses"])) == STEPS
    for report in found:
        together = report[f"accumulate {accumulate}"]
        torch.testing.assert_close(together["weights"], alone["weights"])
        assert together["losses"] == pytest.approx(alone["losses"])  # the mean over both
        assert together["norms"] == pytest.approx(alone["norms"])


def test_loss_that_is_not_finite_ends_both(found: list[dict[str, Any]]) -> None:
    for report in found:
        assert report["error"].startswith("the loss is not finite at iteration 1: ")


def test_untrained_detector_is_that_of_the_first_process(
    found: list[dict[str, Any]], toy: Path, tmp_path: Path
) -> None:
    alone = untrained(toy, tmp_path, seed=0)
    assert alone.scores[0].coco_ap, "nothing found: the comparison shows nothing"
    for report in found:
        assert DomainTable.from_json(report["table"]).scores == alone.scores


@pytest.mark.parametrize("way", WAYS)
def test_training_in_two_processes(runs: dict[str, Ended], folder: Path, way: str) -> None:
    assert runs[way].code == 0, runs[way].err
    assert "Traceback" not in runs[way].err
    assert "FutureWarning" not in runs[way].err
    assert runs[way].out.count("target mean") == 1
    output = folder / way
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    assert [row["iteration"] for row in rows if "total_loss" in row] == [0, 1]
    assert [row["iteration"] for row in rows if "validation/AP50" in row] == [0]
    assert len(list(output.glob("events.out.tfevents.*"))) == 1
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
    launch, torchrun = (torch.load(folder / way / "model_final.pth")["model"] for way in WAYS)
    for name, value in launch.items():
        torch.testing.assert_close(torchrun[name], value)


def test_batch_that_cannot_be_shared_out(runs: dict[str, Ended]) -> None:
    assert runs["wrong"].code == 1
    lines = runs["wrong"].err.splitlines()
    assert "error: total_batch_size must be a multiple of the 2 processes, got 3" in lines
    assert "Traceback" not in runs["wrong"].err
