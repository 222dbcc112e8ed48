"""scripts/check_benchmark.py as a user or a CI job calls it."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.process import ROOT, Started

SCRIPT = ROOT / "scripts" / "check_benchmark.py"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    """Run the script in this process; gives its exit code and what it prints."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def dirty(toy: Path, tmp_path: Path) -> Path:
    """The toy benchmark with half an image to test on, and a copy of one to train on."""
    folder = tmp_path / "toy_weather"
    shutil.copytree(toy.parent, folder)
    train = next(folder.glob("daytime_clear/VOC2007/JPEGImages/*_train_00000.jpg"))
    first, second, _ = sorted(folder.glob("dusk_rainy/VOC2007/JPEGImages/*.jpg"))
    first.write_bytes(first.read_bytes()[:900])
    shutil.copy(train, second)
    return folder / toy.name


def test_a_clean_benchmark(call: Call, toy: Path, tmp_path: Path) -> None:
    code, out, err = call(toy, "--json", tmp_path / "report.json")
    assert (code, err) == (0, "")
    assert out.endswith("\n\nno problems\n")
    assert "daytime-clear/train       8" in out
    assert json.loads((tmp_path / "report.json").read_text())["findings"] == []


def test_a_dirty_benchmark(call: Call, dirty: Path, tmp_path: Path) -> None:
    code, out, _ = call(dirty, "--json", tmp_path / "report.json")
    assert code == 1
    assert "unreadable-image: 1 - " in out
    assert "dusk-rainy/test dusk_rainy_test_00001 a copy of daytime_clear_train_00000 in" in out
    assert out.endswith("\n\n2 problems\n")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["counts"] == {"unreadable-image": 1, "train-test-copy": 1}
    assert call(dirty) == (1, out.replace(", 0 of them", ", 46 of them"), "")  # by the cache


def test_kinds_may_be_allowed(call: Call, dirty: Path) -> None:
    code, out, _ = call(dirty, "--no-cache", "--allow", "unreadable-image")
    assert code == 1
    assert out.endswith("\n\n1 problems, 1 allowed\n")
    code, out, _ = call(dirty, "--no-cache", "--allow", "unreadable-image", "train-test-copy")
    assert code == 0
    assert out.endswith("\n\nno problems, 2 allowed\n")


def test_what_cannot_run(call: Call, toy: Path, tmp_path: Path) -> None:
    code, out, err = call(tmp_path / "none.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("error: no benchmark file")
    (tmp_path / "bad.yaml").write_text("name: [")
    assert call(tmp_path / "bad.yaml")[0] == 2
    assert call(toy, "--allow", "nothing-such")[0] == 2
    assert call(toy, "--workers", "0")[0] == 2
    assert call(toy, "--json", tmp_path / "no folder" / "report.json")[0] == 2


def test_another_root(call: Call, toy: Path, tmp_path: Path) -> None:
    code, out, _ = call(toy, "--root", tmp_path, "--first", "1")
    assert code == 1
    assert "missing-folder: 6 - " in out  # two splits of the source, four targets
    assert "… and 5 more" in out


def test_the_exit_code_of_a_process(dirty: Path, tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    ended = Started(SCRIPT, dirty, folder=tmp_path / "log", env=cache).wait(timeout=120)
    assert ended.code == 1
    assert ended.out.endswith("\n\n2 problems\n")
    assert ended.err == ""  # no progress bar where there is no terminal
    assert [*(tmp_path / "cache" / "sora_det" / "audit").iterdir()]
