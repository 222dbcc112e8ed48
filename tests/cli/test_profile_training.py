"""scripts/profile_training.py tells the parts of a training apart."""

from pathlib import Path

import pytest

from scripts.profile_training import profile, to_text
from tests.tools.process import ROOT, Started
from tests.tools.tiny_run import CONFIG, overrides


def test_parts_make_up_the_whole(toy: Path, tmp_path: Path) -> None:
    watch = profile(CONFIG, overrides(toy, tmp_path / "run"), 2)
    assert watch.counted == 2
    lines = to_text(watch).splitlines()
    parts = {line[:34].strip(): float(line[34:].split()[0]) for line in lines}
    whole = parts.pop("an iteration")
    assert {*parts} == {
        "data", "forward, backbone", "forward, proposal_generator", "forward, roi_heads",
        "backward, backbone", "backward, heads", "optimizer", "hooks",
        "the rest: clipping, checks, sums",
    }  # fmt: skip
    assert sum(parts.values()) == pytest.approx(whole, abs=0.1)
    assert min(parts.values()) > 0


def test_errors_are_one_line(tmp_path: Path) -> None:
    script = (ROOT / "scripts" / "profile_training.py", "--config-file")
    none = Started(*script, tmp_path / "none.py", folder=tmp_path / "none").wait()
    few = Started(*script, CONFIG, "--iterations", "0", folder=tmp_path / "few").wait()
    assert (none.code, few.code) == (1, 2)
    assert none.err.splitlines()[-1].startswith("error: no config file")
    assert few.err.splitlines()[-1].endswith("iterations are counted from 1")
