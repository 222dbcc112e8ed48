"""A run that was killed ends as one that never was, bit by bit."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tools.process import Started
from tests.tools.tiny_run import CONFIG, overrides

ITERATIONS = 30
TIMES = {"time", "data_time", "eta_seconds"}


def arguments(toy: Path, output: Path, workers: int, *more: str) -> list[str]:
    settings = [
        f"train.max_iter={ITERATIONS}",
        "train.checkpoint_period=4",
        "train.log_period=2",
        "train.eval_period=10",
        "train.accumulate=2",
        f"dataloader.train.num_workers={workers}",
        *more,
    ]
    return ["scripts/train_net.py", "--config-file", str(CONFIG), "--resume",
            *overrides(toy, output, *settings)]  # fmt: skip


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested dictionaries and lists by their path."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = {}
    for key, inner in items:
        name = f"{path}/{key}"
        found |= flat(inner, name) if isinstance(inner, dict | list | tuple) else {name: inner}
    return found


def final_state(output: Path) -> dict[str, Any]:
    state = flat(torch.load(output / "model_final.pth", weights_only=True))
    return {k: v for k, v in state.items() if not TIMES & set(k.split("/"))}


def metrics(output: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def assert_same_run(found: Path, wanted: Path) -> None:
    one, other = final_state(found), final_state(wanted)
    assert one.keys() == other.keys()
    assert len([value for value in one.values() if isinstance(value, torch.Tensor)]) > 100
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other[name]), name
        else:
            assert value == other[name], name
    assert metrics(found) == metrics(wanted)
    results = [json.loads((run / "results.json").read_text()) for run in (found, wanted)]
    assert results[0]["scores"] == results[1]["scores"]


@pytest.fixture(scope="module", params=[0, 2], ids=["no worker", "two workers"])
def whole(
    request: pytest.FixtureRequest, toy: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int]:
    """A run that was never killed, and its number of data workers."""
    folder = tmp_path_factory.mktemp("whole")
    ended = Started(*arguments(toy, folder / "run", request.param), folder=folder / "log").wait()
    assert ended.code == 0, ended.err
    return folder / "run", request.param


def test_killed_at_random_moments(whole: tuple[Path, int], toy: Path, tmp_path: Path) -> None:
    reference, workers = whole
    draw = random.Random(workers)
    output, kills = tmp_path / "run", 0
    for attempt in range(30):
        run = Started(*arguments(toy, output, workers), folder=tmp_path / f"log{attempt}")
        if kills < 3:
            _wait_for_progress(run, output)
            time.sleep(0.2 * draw.random())
        try:
            code = run.process.wait(timeout=0.01 if kills < 3 else 240)
        except subprocess.TimeoutExpired:
            run.kill()
            kills += not (output / "model_final.pth").exists()
            continue
        assert code == 0, run.err.read_text()
        break
    assert kills == 3
    assert_same_run(output, reference)


def _wait_for_progress(run: Started, output: Path) -> None:
    """Wait until the run has written metrics that were not there before, or has ended."""
    file, end = output / "metrics.json", time.monotonic() + 240
    before = file.stat().st_mtime_ns if file.is_file() else 0
    while run.process.poll() is None:
        if file.is_file() and file.stat().st_mtime_ns > before:
            return
        if time.monotonic() > end:
            run.kill()
            pytest.fail(f"no progress: {run.err.read_text()[-2000:]}")
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop(
    whole: tuple[Path, int], toy: Path, tmp_path: Path, number: signal.Signals
) -> None:
    reference, workers = whole
    output = tmp_path / "run"
    run = Started(*arguments(toy, output, workers), folder=tmp_path / "log")
    _wait_for_progress(run, output)
    run.process.send_signal(number)
    ended = run.wait()
    assert ended.code == 75, ended.err
    assert "stopped after iteration" in ended.out + ended.err
    assert "Traceback" not in ended.err
    assert not (output / "model_final.pth").exists()
    again = Started(*arguments(toy, output, workers), folder=tmp_path / "log again").wait()
    assert again.code == 0, again.err
    assert_same_run(output, reference)
