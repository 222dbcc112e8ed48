"""The analysis scripts as a user types them, all at once where they do not need each other."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from sora_det.adapt import SoRA, adapter_parameters, save_adapter
from sora_det.engine.train import fit
from tests.tools.process import ROOT, Ended, Started
from tests.tools.tiny_run import CONFIG, overrides, tiny

NAME = "vit_tiny_patch16_224"
SPECTRUM, FORGETTING = (
    ROOT / "scripts" / f"analyze_{kind}.py" for kind in ("spectrum", "forgetting")
)
CONFIGURED = ("--config-file", CONFIG)
REMOVED = ("--counts", "1", "4", "--max-images", "1")
WRONG: dict[str, tuple[tuple[str | Path, ...], str]] = {
    "no weights": ((SPECTRUM, "--model", NAME), "error: say where the weights of"),
    "unknown key": ((FORGETTING, *CONFIGURED, "adaptation.rnk=3"), "nearest is 'adaptation.rank'"),
    "nothing trained": ((FORGETTING, *CONFIGURED), "an untrained detector has forgotten nothing"),
}
UNREAD: dict[str, tuple[tuple[str, ...], str]] = {  # options that nothing would come of
    "neither": ((), "one of the arguments --config-file --model is required"),
    "both": (("--config-file", "a.py", "--model", NAME), "not allowed with argument"),
    "adapter of a run": (
        ("--config-file", "a.py", "--adapter", "b"),
        "--weights and --adapter are for --model",
    ),
    "scores of a model": (("--model", NAME, "--score"), "are for --config-file"),
    "overrides of a model": (("--model", NAME, "train.seed=1"), "are for --config-file"),
}
Runs = dict[str, Ended]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("analyze")


@pytest.fixture(scope="module")
def runs(toy: Path, folder: Path) -> Runs:
    settings = overrides(toy, folder / "run")
    fit(tiny(toy, folder / "run", "train.max_iter=1"))
    weights, adapter = write_adapter(folder)
    model = (SPECTRUM, "--model", NAME, "--weights", weights)
    commands: dict[str, tuple[str | Path, ...]] = {
        "model": model,
        "adapter": (*model, "--adapter", adapter),
        "spectrum": (SPECTRUM, *CONFIGURED, *REMOVED, *settings),
        "forgetting": (FORGETTING, *CONFIGURED, "--max-images", "1", *settings),
        **{name: arguments for name, (arguments, _) in WRONG.items()},
    }
    untrained = overrides(toy, folder / "empty")
    commands["nothing trained"] = (*commands["nothing trained"], *untrained)
    for name in ("model", "adapter", "spectrum", "forgetting"):
        script, *rest = commands[name]
        commands[name] = (script, "--output", folder / f"{name} report", *rest)
    started = {n: Started(*c, folder=folder / f"{n} says") for n, c in commands.items()}
    return {name: process.wait() for name, process in started.items()}


def write_adapter(folder: Path) -> tuple[Path, Path]:
    """Write weights, and an adapter of the last two of twelve blocks for them."""
    net: nn.Module = timm.create_model(NAME, num_classes=0)
    weights, adapter = folder / "weights.safetensors", folder / "adapter.safetensors"
    save_file(net.state_dict(), weights)
    SoRA(rank=4, start_block=10)(net)
    with torch.no_grad():
        for _, factor in adapter_parameters(net):
            factor += 0.01
    save_adapter(net, adapter)
    return weights, adapter


@pytest.mark.parametrize(
    ("name", "report", "figures"),
    [
        ("model", "spectrum", ["spectra"]),
        ("adapter", "spectrum", ["spectra", "movement"]),
        ("spectrum", "spectrum", ["spectra", "movement", "features"]),
        ("forgetting", "forgetting", ["forgetting"]),
    ],
)
def test_files(runs: Runs, folder: Path, name: str, report: str, figures: list[str]) -> None:
    assert runs[name].code == 0, runs[name].err
    assert {file.name for file in (folder / f"{name} report").iterdir()} == {
        f"{report}.json",
        *(f"{figure}.{kind}" for figure in figures for kind in ("svg", "png")),
    }


def test_adapter_report(runs: Runs, folder: Path) -> None:
    assert runs["adapter"].code == 0, runs["adapter"].err
    report = json.loads((folder / "adapter report" / "spectrum.json").read_text())
    assert len(report["movements"]) == 2 * 6
    assert (report["run"]["method"], report["run"]["checkpoint"]) == ("SoRA", "adapter.safetensors")


def here(monkeypatch: pytest.MonkeyPatch, script: Path, *arguments: str) -> object:
    """Run a script that ends in its parser without another process; return the exit code."""
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    return ended.value.code


@pytest.mark.parametrize("script", [SPECTRUM, FORGETTING], ids=["spectrum", "forgetting"])
def test_help(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here(monkeypatch, script, "--help") == 0
    shown = capsys.readouterr().out
    for text in ("--config-file", "--checkpoint", "--output", "--max-images", "key=value"):
        assert text in shown


@pytest.mark.parametrize(("arguments", "message"), UNREAD.values(), ids=UNREAD)
def test_options_that_nothing_would_come_of(
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert here(monkeypatch, SPECTRUM, *arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_the_last_line(runs: Runs, name: str) -> None:
    ended = runs[name]
    assert ended.code == 1
    assert WRONG[name][1] in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err
