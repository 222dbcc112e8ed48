"""Runs as processes of this machine, several at a time, that end with whoever waits for them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CONSOLE = "console.txt"


@dataclass(frozen=True)
class Ended:
    """How a run has ended.

    Attributes:
        code: exit code.
        cpu_seconds: of the process and its children, None if unknown.
    """

    code: int
    cpu_seconds: float | None


class Job(Protocol):
    """A run under way."""

    def ended(self) -> Ended | None:
        """Return how it has ended, None if it has not."""

    def stop(self) -> None:
        """Ask it to write a checkpoint and to end."""


class Starter(Protocol):
    """Starts a run, given the arguments of its script and its folder."""

    threads: int

    def __call__(self, arguments: Sequence[str], folder: Path) -> Job | None:
        """Return the run under way, or None if somebody else is at it."""


class Local:
    """Starts runs on this machine.

    Args:
        script: that trains.
        threads: of every run.
    """

    def __init__(self, script: Path, *, threads: int) -> None:
        self.script, self.threads = script, threads

    def __call__(self, arguments: Sequence[str], folder: Path) -> Job | None:
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            # The process has the lock until it ends, even if this one is killed before.
            return _Process([str(self.script), *arguments], folder, self.threads, lock.fileno())


class _Process:
    def __init__(self, arguments: Sequence[str], folder: Path, threads: int, lock: int) -> None:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        with (folder / CONSOLE).open("a") as console:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                env={**os.environ, **dict.fromkeys(names, str(threads))},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C comes to it by `stop` alone
                pass_fds=(lock,),
            )

    def ended(self) -> Ended | None:
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if pid == 0:
            return None
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return Ended(self.process.returncode, round(usage.ru_utime + usage.ru_stime, 1))

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            self.process.terminate()


def last_words(folder: Path, most: int = 300) -> str:
    """Return the last line of what a run has printed."""
    file = folder / CONSOLE
    lines = file.read_text(errors="replace").strip().splitlines() if file.is_file() else []
    return lines[-1][:most] if lines else "it has printed nothing"


def wait_a_little() -> None:
    time.sleep(0.2)
