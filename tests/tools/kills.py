"""Training runs that are killed, and what must be the same of them as of one that never was."""

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from sora_det.engine.metrics import TIMES
from tests.tools.process import Started
from tests.tools.tiny_run import CONFIG, overrides

# Between the first instruction and the first steps, between steps, and while a checkpoint is
# written.
Moment = Literal["start", "step", "write"]
LIMIT = 240  # seconds until a run that makes no progress is given up


def command(toy: Path, output: Path, workers: int, *more: str) -> list[str]:
    """Return the arguments of a tiny training run that resumes by itself."""
    settings = [
        "train.checkpoint_period=4",
        "train.log_period=2",
        "train.eval_period=10",
        "train.accumulate=2",
        f"dataloader.train.num_workers={workers}",
        *more,
    ]
    return ["scripts/train_net.py", "--config-file", str(CONFIG), "--resume",
            *overrides(toy, output, *settings)]  # fmt: skip


def kill_at(
    moments: Sequence[Moment], arguments: Sequence[str], output: Path, logs: Path, *, seed: int
) -> int:
    """Start a run again and again, kill it at every one of `moments`, and let the last end.

    Args:
        moments: in their order; what falls into them is drawn.
        arguments: as from `command`.
        output: the run's folder.
        logs: a new folder for what the runs print.
        seed: of the draws.

    Returns:
        The number of kills that left an unfinished checkpoint behind.

    Raises:
        RuntimeError: a run ended before it was killed, hangs, or failed.
    """
    draw, unfinished = random.Random(seed), 0
    for number, moment in enumerate(moments):
        before = drafts(output)
        run = Started(*arguments, folder=logs / str(number))
        try:
            _wait(moment, run, output, draw)
        finally:
            ended = run.process.poll()
            run.kill()
        if ended is not None:
            raise RuntimeError(f"ended with {ended} before kill {number}: {run.last_words()}")
        unfinished += bool(drafts(output) - before)
    last = Started(*arguments, folder=logs / "last").wait(4 * LIMIT)
    if last.code != 0:
        raise RuntimeError(f"the last run ended with {last.code}: {last.err[-2000:]}")
    return unfinished


def wait_for_progress(run: Started, output: Path) -> None:
    """Wait until the run has added to its metrics, or has ended."""
    file = output / "metrics.json"
    sizes = [file.stat().st_size if file.is_file() else 0]

    def grown() -> bool:  # a resumed run first cuts off what it does again
        sizes.append(file.stat().st_size if file.is_file() else 0)
        return sizes[-1] > sizes[-2]

    _until(run, grown, pause=0.01)


def drafts(output: Path) -> set[Path]:
    """Return the checkpoints that are being written, or that nobody finished."""
    return set(output.glob(".model_*"))


def _wait(moment: Moment, run: Started, output: Path, draw: random.Random) -> None:
    if moment == "start":
        time.sleep(8 * draw.random())
    elif moment == "step":
        wait_for_progress(run, output)
        time.sleep(0.5 * draw.random())
    else:
        for _ in range(draw.randint(1, 2)):  # the first or the second checkpoint from here
            _wait_for_draft(run, output)


def _wait_for_draft(run: Started, output: Path) -> None:
    """Wait until the run has begun to write a checkpoint, or has ended."""
    before = drafts(output)
    _until(run, lambda: bool(drafts(output) - before), pause=0)


def _until(run: Started, reached: Callable[[], bool], *, pause: float) -> None:
    end = time.monotonic() + LIMIT
    while run.process.poll() is None and not reached():
        if time.monotonic() > end:
            raise RuntimeError(f"no progress in {LIMIT} s: {run.last_words()}")
        time.sleep(pause)


def differences(found: Path, wanted: Path) -> list[str]:
    """Say in what two finished runs differ: every stored value, the metrics, the scores.

    Times apart, values must be equal bit by bit.
    """
    one, other = _final_state(found), _final_state(wanted)
    wrong = [f"only one run has {name}" for name in sorted(one.keys() ^ other.keys())]
    for name in one.keys() & other.keys():
        pair = one[name], other[name]
        both = all(isinstance(value, torch.Tensor) for value in pair)
        if not (torch.equal(*pair) if both else pair[0] == pair[1]):
            wrong.append(f"{name} differs")
    if _metrics(found) != _metrics(wanted):
        wrong.append("metrics.json differs")
    results = [json.loads((run / "results.json").read_text()) for run in (found, wanted)]
    if results[0]["scores"] != results[1]["scores"]:
        wrong.append("the scores differ")
    return wrong


def count_tensors(output: Path) -> int:
    """Return how many tensors the final checkpoint holds."""
    return sum(isinstance(value, torch.Tensor) for value in _final_state(output).values())


def _final_state(output: Path) -> dict[str, Any]:
    state = _flat(torch.load(output / "model_final.pth", weights_only=True))
    return {k: v for k, v in state.items() if not TIMES & set(k.split("/"))}


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested dictionaries and lists by their path."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: dict[str, Any] = {}
    for key, inner in items:
        name = f"{path}/{key}"
        found |= _flat(inner, name) if isinstance(inner, dict | list | tuple) else {name: inner}
    return found


def _metrics(output: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
