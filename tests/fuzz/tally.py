"""Many executions of a target: counts, and one failing input of every kind."""

import contextlib
import re
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from .target import LIBRARY, Target, execute


@dataclass
class Tally:
    """What became of the inputs of one target.

    Attributes:
        read, refused: counts of inputs.
        failed: inputs with another outcome, by where in the code it came up.
    """

    read: int = 0
    refused: int = 0
    failed: dict[str, int] = field(default_factory=dict)

    @property
    def executions(self) -> int:
        return self.read + self.refused + sum(self.failed.values())


def fuzz(
    target: Target,
    numbers: range,
    *,
    folder: Path,
    kept: Path,
    progress: Callable[[], object] = lambda: None,
) -> Tally:
    """Execute a target with one input for each number, the same one every time.

    Args:
        target: what to execute.
        numbers: as many as there are to be executions.
        folder: to work in, best in memory. An input that ends the process remains there.
        kept: folder for the first failing input of every kind and its traceback.
        progress: is called after every execution.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target.prepare(folder)
    tally = Tally()
    for number in numbers:
        _count(target, folder, kept, target.make(Random(number)), tally)
        progress()
    return tally


def _count(target: Target, folder: Path, kept: Path, data: bytes, tally: Tally) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow and PyTorch warn of what we refuse
            outcome = execute(target, folder, data)
    except Exception as error:
        kind = _kind(error)
        if kind not in tally.failed:
            kept.mkdir(parents=True, exist_ok=True)
            number = len(tally.failed)
            (kept / f"{number:03d}-{target.file}").write_bytes(data)
            with contextlib.suppress(UnicodeError):
                (kept / f"{number:03d}.txt").write_text("".join(traceback.format_exception(error)))
        tally.failed[kind] = tally.failed.get(kind, 0) + 1
        return
    if outcome == "read":
        tally.read += 1
    else:
        tally.refused += 1


def _kind(error: Exception) -> str:
    """Name an error by its type and its last place in this project."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(LIBRARY.parent)]
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "elsewhere"
    said = str(error).splitlines()[:1] if isinstance(error, AssertionError) else []
    words = re.sub(r"\d+", "0", "".join(said))[:60]
    return f"{type(error).__name__} at {place} {words!r}"
