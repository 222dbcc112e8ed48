"""However one of several processes ends, the job does: in time, with a code that says how."""

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sora_det.engine.checkpoint import Checkpoints
from tests.tools.process import ROOT, Started

JOB = "tests/ddp/job.py"
SECONDS = 60  # that a job may go on after one of its processes has failed
START = 120  # until a job that does not begin is given up
TWO = ("--standalone", "--nproc-per-node=2")
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Ending:
    code: int
    err: str
    seconds: float  # from the moment that training was under way
    folder: Path


def command(way: str, *more: str) -> list[str]:
    """Return what starts job.py in two processes."""
    return {
        "launch": [JOB, "--num-gpus", "2"],
        "torchrun": ["-m", "torch.distributed.run", *TWO, *more, JOB],
        "our torchrun": ["scripts/torchrun.py", *TWO, *more, JOB],
    }[way]


class Job:
    """job.py in several processes, under way in `folder`, with a fault in store."""

    def __init__(self, folder: Path, fault: str, *arguments: str) -> None:
        self.folder = folder
        folder.mkdir()
        self.started = Started(
            *arguments, folder, fault, folder=folder / "says", env=dict(ENVIRONMENT)
        )

    def ending(self, then: Callable[[Started], None] | None = None) -> Ending:
        """Wait until training is under way, do something to the job, and wait for its end."""
        end = time.monotonic() + START
        while not (self.folder / "under way").exists():
            if self.started.process.poll() is not None or time.monotonic() > end:
                self.started.kill()
                pytest.fail(f"never under way: {self.started.err.read_text()[-3000:]}")
            time.sleep(0.02)
        begin = time.monotonic()
        if then is not None:
            then(self.started)
        ended = self.started.wait(SECONDS)
        return Ending(ended.code, ended.err, time.monotonic() - begin, self.folder)


def terminate(started: Started) -> None:
    started.process.terminate()


def terminate_all(started: Started) -> None:
    """As SLURM and systemd do it: every process is told, whoever has started it."""
    parents = [started.process.pid]
    for parent in parents:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        parents += [int(child) for child in children]
    for pid in parents:
        os.kill(pid, signal.SIGTERM)


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ending]:
    """Jobs under way at the same time."""
    folder = tmp_path_factory.mktemp("endings")
    jobs = {
        "killed": Job(folder / "killed", "killed", *command("launch")),
        "asked": Job(folder / "asked", "none", *command("launch")),
        "all asked": Job(folder / "all", "none", *command("our torchrun", "--max-restarts=1")),
    }
    actions = {"asked": terminate, "all asked": terminate_all}
    return {name: job.ending(actions.get(name)) for name, job in jobs.items()}


def test_a_killed_process_ends_the_job(endings: dict[str, Ending]) -> None:
    assert endings["killed"].code not in (0, 75)
    assert endings["killed"].seconds < SECONDS


@pytest.mark.parametrize("name", ["asked", "all asked"])
def test_a_job_that_is_asked_to_stop_writes_a_checkpoint(
    endings: dict[str, Ending], name: str
) -> None:
    ending = endings[name]
    assert ending.code == 75, ending.err
    assert "KeyboardInterrupt" not in ending.err
    newest = Checkpoints(ending.folder).read_newest()
    assert newest is not None
    file, state = newest
    assert file.name == f"model_{state['trainer']['iteration']:07d}.pth"
    assert state["processes"] == [{}, {}]  # that of each, of which this model has none


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["killed", "error", "lingering", "unheard"])
@pytest.mark.parametrize("way", ["launch", "torchrun"])
def test_the_job_ends_in_time(tmp_path: Path, way: str, fault: str) -> None:
    ending = Job(tmp_path / "job", fault, *command(way)).ending()
    assert ending.code not in (0, 75), ending.err
    assert ending.seconds < SECONDS
    assert ("power cut" in ending.err) == (fault in ("error", "lingering"))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["launch", "our torchrun"])
@pytest.mark.parametrize("action", [terminate, terminate_all])
def test_asked_to_stop(tmp_path: Path, way: str, action: Callable[[Started], None]) -> None:
    ending = Job(tmp_path / "job", "none", *command(way)).ending(action)
    assert ending.code == 75, ending.err
    assert Checkpoints(ending.folder).read_newest() is not None


@pytest.mark.slow
@pytest.mark.parametrize("way", ["launch", "torchrun"])
def test_two_machines_end_together(tmp_path: Path, way: str) -> None:
    """Two groups of one process each, on this machine; it is the second machine's that fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    jobs = []
    for rank in (0, 1):
        meeting = f"127.0.0.1:{port}"
        machine = {
            "launch": [JOB, "--num-gpus=1", "--num-machines=2", f"--machine-rank={rank}",
                       f"--dist-url=tcp://{meeting}"],
            "torchrun": ["-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={rank}",
                         "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=1",
                         f"--rdzv-endpoint={meeting}", JOB],
        }[way]  # fmt: skip
        jobs.append(Started(*machine, tmp_path, "killed", folder=tmp_path / f"{rank}",
                            env=dict(ENVIRONMENT)))  # fmt: skip
    ended = [job.wait(START + SECONDS) for job in jobs]
    assert [one.code in (0, 75) for one in ended] == [False, False], ended
