"""A run that was killed ends as one that never was, bit by bit; scripts/chaos.py kills more."""

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.tools.kills import (
    command,
    count_tensors,
    differences,
    drafts,
    kill_at,
    wait_for_progress,
)
from tests.tools.process import Started

ITERATIONS = "train.max_iter=30"


@pytest.fixture(scope="module")
def whole(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without data workers that was never killed."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = command(toy, folder / "run", 0, ITERATIONS)
    ended = Started(*arguments, folder=folder / "log").wait()
    assert ended.code == 0, ended.err
    assert count_tensors(folder / "run") > 100
    return folder / "run"


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_any_moment(whole: Path, toy: Path, tmp_path: Path, workers: int) -> None:
    output = tmp_path / "run"
    unfinished = kill_at(
        ["step", "write", "step"],
        command(toy, output, workers, ITERATIONS),
        output,
        tmp_path / "logs",
        seed=workers,
    )
    assert unfinished >= 1  # the kill in a write has hit one
    assert not differences(output, whole)
    assert not drafts(output)


def test_any_difference_is_seen(whole: Path, tmp_path: Path) -> None:
    for name in ("results.json", "metrics.json"):
        (tmp_path / name).write_text((whole / name).read_text())
    state = torch.load(whole / "model_final.pth", weights_only=True)
    name, value = next((k, v) for k, v in state["model"].items() if v.is_floating_point())
    value.view(-1)[0] = torch.nextafter(value.view(-1)[0], torch.tensor(9.0))
    torch.save(state, tmp_path / "model_final.pth")
    assert differences(tmp_path, whole) == [f"/model/{name} differs"]
    metrics = (tmp_path / "metrics.json").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.json").write_text("".join(metrics[:-1]))
    assert "metrics.json differs" in differences(tmp_path, whole)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 2), (signal.SIGINT, 0)])
def test_asked_to_stop(
    whole: Path, toy: Path, tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    output = tmp_path / "run"
    arguments = command(toy, output, workers, ITERATIONS)
    run = Started(*arguments, folder=tmp_path / "log")
    wait_for_progress(run, output)
    os.killpg(run.process.pid, number)  # data workers, too, as a terminal or a scheduler does
    ended = run.wait()
    assert ended.code == 75, ended.err
    assert "stopped after iteration" in ended.out + ended.err
    assert (ended.out + ended.err).count("stopping after this step") == 1
    assert "Traceback" not in ended.err
    assert not (output / "model_final.pth").exists()
    again = Started(*arguments, folder=tmp_path / "log again").wait()
    assert again.code == 0, again.err
    assert not differences(output, whole)
