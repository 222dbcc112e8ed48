"""Training in two processes that is stopped, or started again, ends as if it had not been.

With RetinaNet, where each process has a state of its own: a running number of anchors.
"""

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.ddp.faults import write_config
from tests.tools.kills import differences, wait_for_progress
from tests.tools.process import ROOT, Ended, Started
from tests.tools.tiny_run import overrides

pytestmark = pytest.mark.slow

TRAIN = ("scripts/train_net.py", "--resume", "--config-file")
TWO = ("--standalone", "--nproc-per-node=2")
SETTINGS = ("train.max_iter=40", "train.checkpoint_period=6", "train.accumulate=2",
            "dataloader.train.total_batch_size=4", "dataloader.train.num_workers=1")  # fmt: skip


class Runs:
    """train_net.py in folders of its own, with the same settings."""

    def __init__(self, toy: Path, folder: Path) -> None:
        self.toy, self.folder, self.count = toy, folder, 0
        self.whole_config = write_config(folder / "plain", "none", at=0, retinanet=True)

    def start(self, name: str, *arguments: object) -> Started:
        self.count += 1
        settings = overrides(self.toy, self.folder / name, *SETTINGS)
        settings = [line for line in settings if not line.startswith("model.")]
        return Started(
            *map(str, arguments),
            *settings,
            folder=self.folder / f"says {self.count}",
            env={"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
        )

    def launch(self, name: str) -> Ended:
        return self.start(name, *TRAIN, self.whole_config, "--num-gpus", 2).wait()


@pytest.fixture(scope="module")
def runs(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """With a run in the folder `whole` that nothing has happened to."""
    runs = Runs(toy, tmp_path_factory.mktemp("runs"))
    ended = runs.launch("whole")
    assert ended.code == 0, ended.err
    state = torch.load(runs.folder / "whole" / "model_final.pth", weights_only=True)
    first, second = (process["loss_normalizer"] for process in state["processes"])
    assert first != second, "the processes do not differ: the comparisons show nothing"
    return runs


@pytest.mark.parametrize("rank", [0, 1])
def test_after_a_crash(runs: Runs, rank: int) -> None:
    name = f"crashed {rank}"
    config = write_config(runs.folder / f"faulty {rank}", "killed", at=14, retinanet=True)
    config.write_text(config.read_text() + f'hooks["fault"]["rank"] = {rank}\n')
    torchrun = ("-m", "torch.distributed.run", *TWO, "--max-restarts=1")
    ended = runs.start(name, *torchrun, *TRAIN, config).wait()
    assert ended.code == 0, ended.err
    assert "Starting training from iteration 12" in ended.out
    assert not differences(runs.folder / name, runs.folder / "whole")


@pytest.mark.parametrize("way", ["launch", "torchrun"])
def test_after_being_asked_to_stop(runs: Runs, way: str) -> None:
    if way == "launch":
        run = runs.start(way, *TRAIN, runs.whole_config, "--num-gpus", 2)
    else:
        run = runs.start(way, "scripts/torchrun.py", *TWO, *TRAIN, runs.whole_config)
    wait_for_progress(run, runs.folder / way)
    if way == "launch":
        os.killpg(run.process.pid, signal.SIGTERM)  # data workers as well, as a scheduler does
    else:
        run.process.terminate()
    ended = run.wait()
    assert ended.code == 75, ended.err
    assert not (runs.folder / way / "model_final.pth").exists()
    again = runs.launch(way)
    assert again.code == 0, again.err
    assert not differences(runs.folder / way, runs.folder / "whole")
