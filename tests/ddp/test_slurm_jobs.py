"""scripts/launch_slurm.py: what it asks of SLURM, and a job that is queued again and goes on."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tools.kills import differences
from tests.tools.process import ROOT, Started
from tests.tools.tiny_run import CONFIG, overrides

submitit = pytest.importorskip("submitit", reason="needs the extra slurm")

from scripts.launch_slurm import parser, submit  # noqa: E402  which needs submitit

SECONDS = 240  # until a job that does not end is given up
SETTINGS = ("train.max_iter=20", "train.checkpoint_period=1000", "train.accumulate=2")

# They do what those of SLURM print, and keep what they are given.
COMMANDS = {"sbatch": 'cp "$1" "$KEPT"; echo Submitted batch job 12', "srun": "", "scontrol": ""}


def test_what_slurm_is_asked_for(tmp_path: Path) -> None:
    programs, kept = tmp_path / "bin", tmp_path / "sbatch.sh"
    programs.mkdir()
    for name, line in COMMANDS.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    ended = Started(
        *("scripts/launch_slurm.py", "--nodes=2", "--gpus=8", "--cpus=6", "--hours=12"),
        *("--grace=300", "--partition=gpu", "--folder", tmp_path / "logs", "--"),
        *("--config-file", CONFIG, "train.max_iter=1"),
        folder=tmp_path / "says",
        env={"PATH": f"{programs}:{os.environ['PATH']}", "KEPT": str(kept)},
    ).wait(60)
    assert ended.code == 0, ended.err
    assert ended.err.endswith(f"job 12, logs in {tmp_path / 'logs'}\n")
    lines = kept.read_text().splitlines()
    for option in (
        *("nodes=2", "ntasks-per-node=8", "gpus-per-node=8", "cpus-per-task=6", "partition=gpu"),
        *("time=720", "signal=USR2@300", "open-mode=append"),
    ):
        assert f"#SBATCH --{option}" in lines
    (start,) = [line for line in lines if line.startswith("srun ")]
    assert "--kill-on-bad-exit=1" in start


def children(pid: int) -> list[int]:
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Submitted:
    """train_net.py as a job on this machine, in `processes` tasks."""

    def __init__(self, toy: Path, folder: Path, processes: int) -> None:
        self.output, self.logs = folder / "run", folder / "logs"
        arguments = ["--config-file", str(CONFIG), *overrides(toy, self.output, *SETTINGS)]
        count = f"--cpu-processes={processes}"
        given = ["--cluster=local", f"--folder={self.logs}", count, "--hours=1", "--", *arguments]
        self.job: Any = submit(parser().parse_args(given))

    def wait(self) -> None:
        end = time.monotonic() + SECONDS
        while not self.job.done():
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)
        assert self.job.results() == [None] * self.job.num_tasks, self.log()

    def interrupt(self) -> None:
        """Send what SLURM sends, to all of the job's processes, when training is under way."""
        end = time.monotonic() + SECONDS
        while not (self.output / "metrics.json").is_file():
            assert time.monotonic() < end, self.log()
            time.sleep(0.01)
        tasks = children(int(self.job.job_id))
        scripts = [child for task in tasks for child in children(task)]
        assert len(scripts) == len(tasks) == self.job.num_tasks
        for pid in (*tasks, *scripts):
            os.kill(pid, signal.SIGUSR2)

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.logs.glob("*_log.*")))


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Submitted]]:
    """A list of jobs that are ended with the test."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    started: list[Submitted] = []
    yield started
    for submitted in started:
        controller = int(submitted.job.job_id)
        if not submitted.job.done():
            for task in children(controller):
                for pid in (*children(task), task):
                    os.kill(pid, signal.SIGKILL)
            os.kill(controller, signal.SIGKILL)


def test_a_preempted_job_is_queued_again_and_goes_on(
    toy: Path, tmp_path: Path, jobs: list[Submitted]
) -> None:
    jobs.append(Submitted(toy, tmp_path, processes=1))
    jobs[0].interrupt()
    jobs[0].wait()
    log = jobs[0].log()
    assert log.count("Requeued job") == 1, log
    stopped = next(line for line in log.splitlines() if "stopped after iteration" in line)
    iteration = int(stopped.split("stopped after iteration ")[1].split()[0])
    assert f"Starting training from iteration {iteration + 1}" in log
    assert (jobs[0].output / "results.json").is_file()


@pytest.mark.slow
def test_it_ends_as_if_it_had_never_been_stopped(
    toy: Path, tmp_path: Path, jobs: list[Submitted]
) -> None:
    jobs += [Submitted(toy, tmp_path / name, processes=2) for name in ("one", "other")]
    jobs[0].interrupt()
    for submitted in jobs:
        submitted.wait()
    assert "Requeued job" in jobs[0].log()
    assert not differences(jobs[0].output, jobs[1].output)


@pytest.mark.slow
def test_a_failed_job_says_so(toy: Path, tmp_path: Path, jobs: list[Submitted]) -> None:
    jobs.append(Submitted(toy.with_name("nowhere.yaml"), tmp_path, processes=1))
    end = time.monotonic() + SECONDS
    while not jobs[0].job.done():
        assert time.monotonic() < end
        time.sleep(0.1)
    with pytest.raises(submitit.core.utils.FailedJobError, match="ended with exit code 1"):
        jobs[0].job.result()
    assert "error:" in jobs[0].log()
