"""Start scripts as a user does, several at once, and end them with all their children."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str


class Started:
    """A running Python process; what it prints goes to files in `folder`.

    Args:
        arguments: of the interpreter.
        folder: a new one for every process.
        env: additions to this process's environment.
    """

    def __init__(self, *arguments: str | Path, folder: Path, env: dict[str, str] | None = None):
        folder.mkdir(parents=True)
        self.out, self.err = folder / "out.txt", folder / "err.txt"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def wait(self, timeout: float = 240) -> Ended:
        """Wait for the end; fail the test, and end every child, after `timeout` seconds."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"no end after {timeout} s: {self.last_words()}")
        return Ended(code, self.out.read_text(), self.err.read_text())

    def last_words(self) -> str:
        return self.err.read_text()[-2000:]

    def kill(self) -> None:
        """End the process and its children at once, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
