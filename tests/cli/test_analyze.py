"""The analysis scripts as a user types them."""

import json
from collections.abc import Callable
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
Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def start(script: str, *arguments: str | Path) -> Ended:
        folder = tmp_path / f"output of {len(list(tmp_path.iterdir()))}"
        return Started(ROOT / "scripts" / script, *arguments, folder=folder).wait()

    return start


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def drawn(*figures: str) -> set[str]:
    return {f"{name}.{kind}" for name in figures for kind in ("svg", "png")}


def test_model_and_adapter(run: Run, tmp_path: Path) -> None:
    net: nn.Module = timm.create_model(NAME, num_classes=0)
    weights, adapter = tmp_path / "weights.safetensors", tmp_path / "adapter.safetensors"
    save_file(net.state_dict(), weights)
    output = tmp_path / "plain"
    ended = run("analyze_spectrum.py", "--model", NAME, "--weights", weights, "--output", output)
    assert ended.code == 0, ended.err
    assert names(output) == {"spectrum.json", *drawn("spectra")}

    SoRA(rank=4, start_block=10)(net)
    with torch.no_grad():
        for _, factor in adapter_parameters(net):
            factor += 0.01
    save_adapter(net, adapter)
    output = tmp_path / "adapted"
    arguments = ("--weights", weights, "--adapter", adapter, "--output", output)
    ended = run("analyze_spectrum.py", "--model", NAME, *arguments)
    assert ended.code == 0, ended.err
    assert names(output) == {"spectrum.json", *drawn("spectra", "movement")}
    report = json.loads((output / "spectrum.json").read_text())
    assert len(report["movements"]) == 2 * 6
    assert (report["run"]["method"], report["run"]["checkpoint"]) == ("SoRA", adapter.name)


def test_run(run: Run, toy: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    fit(tiny(toy, output, "train.max_iter=1"))
    settings = overrides(toy, output)
    spectrum, forgetting = tmp_path / "spectrum", tmp_path / "forgetting"
    ended = run(
        "analyze_spectrum.py", "--config-file", CONFIG, "--output", spectrum,
        "--max-images", "1", "--counts", "1", "4", "--", *settings,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert names(spectrum) == {"spectrum.json", *drawn("spectra", "movement", "features")}
    ended = run(
        "analyze_forgetting.py", "--config-file", CONFIG, "--output", forgetting,
        "--max-images", "1", *settings,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert names(forgetting) == {"forgetting.json", *drawn("forgetting")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "vit_tiny_patch16_224"), "error: "),
        (("--model", "vit_tiny", "--weights", "none"), "timm has no model 'vit_tiny'; near: "),
        (("--config-file", "none.py"), "error: no config file none.py"),
        (("--config-file", CONFIG, "adaptation.rnk=3"), "nearest is 'adaptation.rank'"),
    ],
)
def test_bad_arguments(run: Run, arguments: tuple[str, ...], message: str) -> None:
    ended = run("analyze_spectrum.py", *arguments)
    assert ended.code == 1
    assert message in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err
