"""Trainings that submitit runs on a SLURM cluster, and that go on after a preemption."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import submitit

from .stop import STOPPED
from .study.jobs import Ended, Job


class Training:
    """One task of a job: a process of a training script, which joins those of the other tasks.

    Before the time limit, or when SLURM preempts the job, submitit calls `checkpoint` in the first
    task. The script writes its checkpoint then, in all tasks after the same step, and the job is
    put into the queue again.

    Args:
        script: as scripts/train_net.py.
        arguments: of it; `--resume` is among them, as the first start and all others have the same.
        gpus: whether every task has a GPU of its own, that of its rank on the machine.
    """

    def __init__(self, script: str, arguments: Sequence[str], *, gpus: bool) -> None:
        self.script, self.arguments, self.gpus = script, list(arguments), gpus
        self._process: int | None = None

    def __call__(self) -> None:
        """Run the script to its end.

        Raises:
            RuntimeError: it failed, or was stopped by something else than submitit.
        """
        environment = submitit.helpers.TorchDistributedEnvironment()
        environment.export(set_cuda_visible_devices=self.gpus, overwrite=True)
        process = subprocess.Popen([sys.executable, self.script, *self.arguments])
        self._process = process.pid
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # as in `checkpoint`, see there
        code = process.wait()
        if code == STOPPED and environment.rank != 0:
            return  # the first task puts the job into the queue again
        if code != 0:
            raise RuntimeError(f"{self.script} ended with exit code {code}")

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Stop the script as it wants to be stopped and return what is to be run next time.

        submitit calls this inside a signal handler, while `__call__` waits in the same thread:
        `Popen.wait` would wait for a lock that is held already, so that neither side reaps.
        """
        if self._process is not None:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._process, signal.SIGTERM)
                os.waitid(os.P_PID, self._process, os.WEXITED | os.WNOWAIT)
        again = Training(self.script, self.arguments, gpus=self.gpus)
        return submitit.helpers.DelayedSubmission(again)


class Cluster:
    """Starts the runs of a study as jobs of one process each.

    A job goes on when whoever submitted it ends; who starts the same run later waits for that job.

    Args:
        script: that trains.
        folder: of the jobs' logs, shared with the machines of the cluster.
        cluster: "slurm", or "local" for processes of this machine.
        name: of the jobs.
        gpus: of a job, 0 for none.
        cpus: processors of a job.
        hours: until a job is ended and put into the queue again.
        partition, account: of the cluster, None for its own.
    """

    def __init__(
        self,
        script: Path,
        *,
        folder: Path,
        cluster: str = "slurm",
        name: str = "study",
        gpus: int = 1,
        cpus: int = 1,
        hours: float = 4.0,
        partition: str | None = None,
        account: str | None = None,
    ) -> None:
        self.script, self.folder, self.cluster = script, folder, cluster
        self.gpus, self.threads = gpus, cpus
        self.executor = submitit.AutoExecutor(folder, cluster=cluster, slurm_max_num_timeout=100)
        chosen = {"slurm_partition": partition, "slurm_account": account}
        self.executor.update_parameters(
            name=name,
            tasks_per_node=1,
            gpus_per_node=gpus,
            cpus_per_task=cpus,
            timeout_min=round(60 * hours),
            slurm_signal_delay_s=120,
            **{key: value for key, value in chosen.items() if value},
        )

    def __call__(self, arguments: Sequence[str], folder: Path) -> Job:
        note = folder / "job"
        if self.cluster == "slurm" and note.is_file():
            known: submitit.Job[None] = submitit.SlurmJob(self.folder, note.read_text().strip())
            if not known.done():
                return _Submitted(known)
        training = Training(str(self.script), arguments, gpus=self.gpus > 0)
        job: submitit.Job[None] = self.executor.submit(training)
        note.write_text(job.job_id)
        return _Submitted(job)


class _Submitted:
    def __init__(self, job: submitit.Job[Any]) -> None:
        self.job, self.left = job, False

    def ended(self) -> Ended | None:
        if self.left:
            return Ended(STOPPED, None)
        if not self.job.done():
            return None
        error = self.job.exception()
        code = re.search(r"ended with exit code (-?\d+)", str(error))
        return Ended(0 if error is None else int(code[1]) if code else 1, None)

    def stop(self) -> None:
        self.left = True
