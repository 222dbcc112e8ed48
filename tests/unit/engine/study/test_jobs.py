"""Runs as processes: how they end, what they are told, and that none is started twice."""

import time
from pathlib import Path

import pytest

from sora_det.engine.study.jobs import Ended, Job, Local, last_words

SCRIPT = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print(os.environ["OMP_NUM_THREADS"], *sys.argv[1:], flush=True)
open(sys.argv[2], "w").close()
while sys.argv[1] == "wait":
    time.sleep(0.05)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def start(tmp_path: Path) -> Local:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return Local(script, threads=3)


def ended(job: Job | None) -> Ended:
    assert job is not None
    end = time.monotonic() + 120
    while (found := job.ended()) is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("code", ["0", "65"])
def test_code_time_and_threads(start: Local, tmp_path: Path, code: str) -> None:
    found = ended(start([code, str(tmp_path / "begun")], tmp_path))
    assert found.code == int(code)
    assert found.cpu_seconds is not None
    assert last_words(tmp_path).startswith(f"3 {code}")


def test_a_run_that_goes_on_is_not_started_again(start: Local, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    job = start(["wait", str(begun)], tmp_path)
    assert job is not None
    while not begun.exists():
        time.sleep(0.02)
    assert start(["0", str(begun)], tmp_path) is None
    assert job.ended() is None
    job.stop()
    assert ended(job).code == 75
    assert ended(start(["0", str(begun)], tmp_path)).code == 0


def test_nothing_was_printed(tmp_path: Path) -> None:
    assert last_words(tmp_path) == "it has printed nothing"
