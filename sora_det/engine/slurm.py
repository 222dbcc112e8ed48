"""A training that submitit runs on a SLURM cluster, and that goes on after a preemption."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

import submitit

from .stop import STOPPED


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
