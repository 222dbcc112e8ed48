"""Measure alternatives in turns, and say how they compare."""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from tqdm import tqdm

Task = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """How long one of several alternatives took.

    Attributes:
        name: what was measured.
        seconds: of every repetition, in their order.
    """

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Ratio:
    """One alternative's time over another's; both halves of a pair come from the same turn."""

    of: str
    to: str
    median: float
    least: float
    most: float


def in_turns(
    tasks: Mapping[str, Task],
    repetitions: int,
    *,
    before: Task | None = None,
    clock: Clock = time.perf_counter,
) -> list[Timing]:
    """Time every task `repetitions` times, one after the other, so that all meet the same machine.

    Args:
        tasks: by name. Each is called once before, which is not counted.
        repetitions: at least 1.
        before: called before each task, not timed.
        clock: returns seconds.
    """
    if repetitions < 1:
        raise ValueError(f"at least 1 repetition is needed, got {repetitions}")
    found: dict[str, list[float]] = {name: [] for name in tasks}
    rounds = range(1 + repetitions)
    with tqdm(total=len(rounds) * len(tasks), desc="measuring", disable=None) as bar:
        for turn in rounds:
            for name, task in tasks.items():
                if before is not None:
                    before()
                seconds = _seconds(task, clock)
                if turn:
                    found[name].append(seconds)
                bar.update()
    return [Timing(name, tuple(seconds)) for name, seconds in found.items()]


def step_clock() -> Clock:
    """Return the clock for work of this process alone, without files and other processes.

    One thread's work on the CPU is measured by processor time: it does not count what the machine
    does for others meanwhile.
    """
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time if alone else time.perf_counter


def _seconds(task: Task, clock: Clock) -> float:
    gc.collect()
    start = clock()
    task()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def ratio(of: Timing, to: Timing) -> Ratio:
    """Compare two timings of the same turns."""
    pairs = [one / other for one, other in zip(of.seconds, to.seconds, strict=True)]
    return Ratio(of.name, to.name, statistics.median(pairs), min(pairs), max(pairs))


def machine() -> dict[str, object]:
    """Return what a reader must know of the machine to make sense of its times."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "linear algebra": "MKL" if torch.backends.mkl.is_available() else "not MKL",
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
