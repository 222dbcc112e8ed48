"""scripts/train_net.py as a user runs it: by command line, on a terminal or not."""

import json
import os
import pty
import re
import runpy
import shutil
import signal
import subprocess
import sys
import termios
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from sora_det.engine.stop import DIVERGED
from sora_det.evaluation import DomainTable
from tests.tools.process import ROOT, Ended, Started
from tests.tools.tiny_run import CONFIG, overrides

SCRIPT = ROOT / "scripts" / "train_net.py"
TRAIN = (SCRIPT, "--config-file", CONFIG)
SECONDS = 240  # until a hanging script is given up


@dataclass(frozen=True)
class OnTerminal:
    output: Path
    results: str
    shown: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("train_net")


@pytest.fixture(scope="module")
def trained(toy: Path, folder: Path) -> OnTerminal:
    """Two iterations and a validation, on a terminal."""
    output = folder / "trained"
    settings = overrides(toy, output, "train.max_iter=2", "train.eval_period=1", "train.seed=3")
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 100))
    process = subprocess.Popen(
        [sys.executable, *map(str, TRAIN), *settings],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    # The whole group: any process left would hold the terminal open.
    alarm = threading.Timer(SECONDS, os.killpg, (process.pid, signal.SIGKILL))
    alarm.start()
    shown = b"".join(iter(lambda: _read(master), b""))
    code = process.wait()
    alarm.cancel()
    os.close(master)
    assert code == 0, shown.decode()[-3000:]
    return OnTerminal(output, (output / "results.json").read_text(), shown.decode())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side has been closed
        return b""


@pytest.fixture(scope="module")
def runs(toy: Path, folder: Path, trained: OnTerminal) -> dict[str, Ended]:
    """What comes after the training, and what goes wrong, all at once."""
    checkpoint = folder / "trained.pth"  # a copy: --resume writes a new one
    shutil.copy(trained.output / "model_final.pth", checkpoint)
    (folder / "eval").mkdir()
    if Path("/dev/full").exists():  # a disk that is full
        (folder / "eval" / "log.txt").symlink_to("/dev/full")
    evaluation = overrides(toy, folder / "eval", f"train.init_checkpoint={checkpoint}")
    resumed = overrides(toy, trained.output, "train.max_iter=3")
    weights = overrides(toy, folder / "weights", "backbone.net.random_init=false")
    commands = {
        "help": [SCRIPT, "--help"],
        "unknown key": [*TRAIN, "adaptation.rnak=8"],
        "no weights": [*TRAIN, *weights, "backbone.net.weights=no/where.safetensors"],
        "eval-only": [*TRAIN, "--eval-only", *evaluation],
        "resume": [*TRAIN, "--resume", *resumed],
    }
    started = {name: Started(*c, folder=folder / f"{name} says") for name, c in commands.items()}
    return {name: process.wait(SECONDS) for name, process in started.items()}


def test_help(runs: dict[str, Ended]) -> None:
    assert runs["help"].code == 0
    for text in ("--config-file", "--num-gpus", "--resume", "--eval-only", "key=value"):
        assert text in runs["help"].out
    assert runs["help"].err == ""


def test_training(trained: OnTerminal) -> None:
    names = {file.name for file in trained.output.iterdir()}
    assert {"results.json", "results.md", "metrics.json", "config.yaml", "log.txt"} <= names
    table = DomainTable.from_json(trained.results)
    assert (table.run.config, table.run.seed, table.run.iteration) == ("toy_sora_frcnn", 3, 2)
    assert len(table.scores) == 5
    assert re.search(r"\ntarget mean .*\r\n.*±.*\r\nworst target ", trained.shown)
    assert "parameters train (" in trained.shown


def test_progress_line_on_a_terminal(trained: OnTerminal) -> None:
    """It shows the time left, and the lines of the log do not run into it."""
    pieces = re.split(r"[\r\n]+", trained.shown)
    bars = [piece for piece in pieces if re.search(r"\d/2 \[\d\d:\d\d<", piece)]
    assert re.search(r"2/2 \[\d\d:\d\d<\d\d:\d\d", bars[-1])
    assert not [bar for bar in bars if "sora_det" in bar or "d2." in bar]


def test_no_progress_line_in_a_log(trained: OnTerminal, runs: dict[str, Ended]) -> None:
    log = (trained.output / "log.txt").read_text()
    assert "iter: 1 " in log
    for text in (log, runs["resume"].out, runs["resume"].err):
        assert "it/s" not in text
        assert "\r" not in text


def test_no_warning_that_a_user_could_not_act_upon(trained: OnTerminal) -> None:
    assert not re.findall(r"^.*Warning.*$", trained.shown, flags=re.MULTILINE)


def test_eval_only(trained: OnTerminal, runs: dict[str, Ended], folder: Path) -> None:
    assert runs["eval-only"].code == 0, runs["eval-only"].err
    assert "Logging error" not in runs["eval-only"].err  # once for every line
    table = DomainTable.from_json((folder / "eval" / "results.json").read_text())
    assert table.run.iteration == 2
    assert table.scores == DomainTable.from_json(trained.results).scores
    assert not (folder / "eval" / "metrics.json").exists()


def test_resume(trained: OnTerminal, runs: dict[str, Ended]) -> None:
    assert runs["resume"].code == 0, runs["resume"].err
    assert "Starting training from iteration 2" in runs["resume"].out
    rows = [json.loads(x) for x in (trained.output / "metrics.json").read_text().splitlines()]
    assert [row["iteration"] for row in rows if "total_loss" in row] == [0, 1, 2]


def _one_line(ended: Ended) -> str:
    """Return the error message: the last line, without a traceback before it."""
    assert ended.code == 1
    assert "Traceback" not in ended.err
    lines = [line for line in ended.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert ended.err.endswith(f"{lines[0]}\n")
    return lines[0]


def test_unknown_key(runs: dict[str, Ended]) -> None:
    want = "error: config has no key 'adaptation.rnak'; the nearest is 'adaptation.rank'"
    assert _one_line(runs["unknown key"]) == want


def test_missing_weights(runs: dict[str, Ended]) -> None:
    assert _one_line(runs["no weights"]) == "error: no weights file at no/where.safetensors"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "error: no config file given: pass --config-file configs/<name>.py"),
        (("--config-file", "no/where.py"), "error: no config file no/where.py"),
        (("--config-file", str(CONFIG), "rank"), "error: override 'rank' is not of the form"),
    ],
)
def test_wrong_arguments(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit, match=re.escape(message)):
        runpy.run_path(str(SCRIPT), run_name="__main__")


def test_a_training_that_diverges_has_a_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge(*_: object) -> None:
        raise FloatingPointError("the loss is not finite")

    monkeypatch.setattr("sora_det.engine.config.load_config", diverge)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--config-file", str(CONFIG)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == DIVERGED == 65
    assert capsys.readouterr().err == "error: the loss is not finite\n"
