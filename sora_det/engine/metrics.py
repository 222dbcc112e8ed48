"""The file of metrics, which an interrupted and resumed run writes as an uninterrupted one does."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils.events import EventStorage

from .files import append, write_whole

WINDOW = 20  # iterations that a smoothed value is the median of
# Of one process on one machine: a resumed run has times of its own.
TIMES = {"time", "data_time", "eta_seconds"}

History = dict[str, dict[str, Any]]


def recent_history(storage: EventStorage) -> History:
    """Return the values of every scalar but times that later medians depend on, as plain data."""
    hints = storage.smoothing_hints()
    return {
        name: {
            "smooth": bool(hints[name]),
            "values": [[v, i] for v, i in buffer.values()[-WINDOW:]],
        }
        for name, buffer in storage.histories().items()
        if name not in TIMES
    }


def restore_history(storage: EventStorage, history: History) -> None:
    """Put back what `recent_history` returned."""
    now = storage.iter
    for name, entry in history.items():
        for value, iteration in entry["values"]:
            storage.iter = iteration
            storage.put_scalar(name, value, smoothing_hint=entry["smooth"])
    storage.iter = now


class WriteMetrics(HookBase):
    """Write the scalars of the storage every `period` iterations, one JSON object a line.

    A line holds what was put at its `iteration`; losses and times are medians of the last 20
    iterations. Before training, lines of iterations that are about to be repeated are dropped.

    Args:
        file: to append to.
        period: in iterations; the last one is written anyway.
    """

    def __init__(self, file: str | Path, period: int) -> None:
        self.file, self.period = Path(file), period

    def before_train(self) -> None:
        kept = keep_lines(self.file, self.trainer.start_iter)
        self.written = json.loads(kept[-1])["iteration"] if kept else -1

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.period == 0 or done == self.trainer.max_iter:
            self._write()

    def _write(self) -> None:
        rows: dict[int, dict[str, float]] = defaultdict(dict)
        values = self.trainer.storage.latest_with_smoothing_hint(WINDOW)
        for name, (value, iteration) in values.items():
            if iteration > self.written:
                rows[iteration][name] = value
        lines = [
            json.dumps({**row, "iteration": iteration}, sort_keys=True) + "\n"
            for iteration, row in sorted(rows.items())
        ]
        append(self.file, "".join(lines))
        self.written = max(rows, default=self.written)


def keep_lines(file: Path, start: int) -> list[str]:
    """Drop from a file the lines of iterations that are about to be repeated; return the others."""
    kept = kept_lines(file, start)
    if file.is_file():
        write_whole(file, lambda new: new.write("".join(kept).encode()))
    return kept


def kept_lines(file: Path, start: int) -> list[str]:
    """Return the whole lines of iterations before `start`; a line that was cut off ends them."""
    kept: list[str] = []
    if not file.is_file():
        return kept
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            iteration = json.loads(line)["iteration"]
        except (ValueError, KeyError, TypeError, RecursionError):
            break
        if not line.endswith("\n") or type(iteration) is not int or iteration >= start:
            break
        kept.append(line)
    return kept
