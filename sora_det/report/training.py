"""The numbers of a training, read from the metrics.json that Detectron2 writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

METRICS = "metrics.json"
Series = tuple[list[float], list[float]]  # iterations, values


@dataclass(frozen=True)
class Training:
    """What a training wrote down.

    Attributes:
        series: by name, such as "total_loss" or "lr/adapter".
        broken: lines that could not be read.
    """

    series: Mapping[str, Series]
    broken: int = 0

    def group(self, prefix: str) -> dict[str, Series]:
        """Return the series whose names start so, by the rest of their names."""
        return {k.removeprefix(prefix): v for k, v in self.series.items() if k.startswith(prefix)}


def read_training(folder: Path) -> Training | str:
    """Read `metrics.json` of a run, or say in one sentence why there is nothing to read.

    One JSON object a line. A resumed run repeats iterations; the last line of each counts. Lines
    that are cut off, as by a crash, are counted and left out.
    """
    file = folder / METRICS
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return (
            f"There is no {METRICS} in this folder: either nothing was trained here (--eval-only "
            "writes none) or the file was not copied with the results."
        )
    except OSError as error:
        return f"{METRICS} cannot be read: {error.strerror}."
    values: dict[str, dict[int, float]] = {}
    broken = 0
    for line in filter(str.strip, lines):
        entry = _entry(line)
        if entry is None:
            broken += 1
            continue
        iteration = int(entry.pop("iteration"))
        for name, value in entry.items():
            values.setdefault(name, {})[iteration] = value
    if not values:
        return f"{METRICS} holds no line that can be read: it is empty or damaged."
    series = {name: _series(found) for name, found in sorted(values.items())}
    return Training(series, broken)


def _entry(line: str) -> dict[str, float] | None:
    """Return the numbers of one line, None if it is not what Detectron2 writes."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    iteration = found.get("iteration") if isinstance(found, dict) else None
    if type(iteration) is not int or not 0 <= iteration < 2**53:
        return None
    numbers = {
        key: value
        for key, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return {key: float(value) if abs(value) < 1e300 else math.nan for key, value in numbers.items()}


def _series(values: Mapping[int, float]) -> Series:
    order = sorted(values)
    return [float(i) for i in order], [values[i] for i in order]
