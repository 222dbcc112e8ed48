"""scripts/merge.py and scripts/export.py as a user types them."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sora_det.adapt import adapted_layers
from sora_det.engine.config import load_config
from sora_det.engine.plain import write_plain
from sora_det.engine.predict import Detector, load_detector
from sora_det.engine.train import fit, score
from sora_det.evaluation import DomainTable
from tests.tools.process import ROOT, Started
from tests.tools.tiny_run import CONFIG, MANY_BOXES, overrides, tiny

GUIDE = ROOT / "docs" / "deployment.md"
MERGE = (ROOT / "scripts" / "merge.py", "--config-file", CONFIG)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("merge_script")


@pytest.fixture(scope="module")
def trained(toy: Path, folder: Path) -> DomainTable:
    fast = ("optimizer.params.rates.adapter.lr=0.1", "train.max_iter=2")
    return fit(tiny(toy, folder / "run", *fast, *MANY_BOXES))


@pytest.fixture(scope="module")
def plain(trained: DomainTable, toy: Path, folder: Path) -> Path:
    """The folder that the script has written."""
    settings = ("--", *overrides(toy, folder / "run", *MANY_BOXES))
    ended = Started(*MERGE, "--output", folder / "plain", *settings, folder=folder / "says").wait()
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == str(folder / "plain" / "model_final.pth")
    return folder / "plain"


def maps(detector: Detector) -> dict[str, Tensor]:
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: dict[str, Tensor] = detector.model.backbone(images)
    return found


def test_the_plain_detector_computes_the_same(plain: Path, toy: Path, folder: Path) -> None:
    adapted = load_detector(tiny(toy, folder / "run", *MANY_BOXES))
    merged = load_detector(load_config(plain / "config.yaml"))
    assert adapted_layers(adapted.model)
    assert not adapted_layers(merged.model)
    ours, theirs = maps(merged), maps(adapted)
    for name, want in theirs.items():
        largest = float(want.abs().max())
        torch.testing.assert_close(ours[name], want, rtol=0, atol=1e-5 * largest)
    names = set(merged.model.state_dict())
    assert "backbone.net.blocks.1.attn.qkv.weight" in names
    assert names == set(torch.load(plain / "model_final.pth", weights_only=True)["model"])
    assert not [name for name in names if "residual" in name or ".up" in name]


def test_the_guide_s_code(plain: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.S)
    names: dict[str, Any] = {}
    exec(code.replace("output/plain", str(plain)), names)
    saved = torch.load(plain / "model_final.pth", weights_only=True)["model"]
    assert not names["model"].training
    for name, value in names["model"].state_dict().items():
        assert torch.equal(value, saved[name]), name


def test_it_scores_the_same_under_its_own_name(plain: Path, trained: DomainTable) -> None:
    table = score(load_config(plain / "config.yaml"))
    assert max(one.ap50 or 0 for one in trained.scores) > 0
    for one, two in zip(table.scores, trained.scores, strict=True):
        assert one.ap50 == pytest.approx(two.ap50, abs=1e-6)
    assert table.run.method == f"{trained.run.method}, merged"
    assert table.run.weights == trained.run.weights == "random initialisation"
    assert (plain / "results.json").is_file()


def test_what_cannot_be_merged(plain: Path, toy: Path, folder: Path) -> None:
    cfg: Any = tiny(toy, folder / "run", *MANY_BOXES)
    with pytest.raises(ValueError, match="plain holds checkpoints already: choose another folder"):
        write_plain(cfg, plain)
    with pytest.raises(ValueError, match="nothing to merge: no layer of this detector is adapted"):
        write_plain(load_config(plain / "config.yaml"), folder / "twice")
    assert not (folder / "twice").exists()
    missing = folder / "none.pth"
    ended = Started(
        *MERGE, "--output", folder / "new", "--checkpoint", missing, "--",
        *overrides(toy, folder / "run"), folder=folder / "missing says",
    ).wait()  # fmt: skip
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == f"error: no checkpoint at {missing}"


def test_export(plain: Path, folder: Path) -> None:
    script = (ROOT / "scripts" / "export.py", "--config-file", plain / "config.yaml")
    started = [
        Started(*script, "--size", "64", side, folder / name, folder=folder / f"{name} says")
        for side, name in (("96", "net.pt2"), ("0", "none.pt2"), ("64", "net.pth"))
    ]
    written, empty, other = [process.wait() for process in started]
    assert written.code == 0, written.err
    assert (folder / "net.pt2").stat().st_size > 100_000
    assert empty.code == 2
    assert "batch and size are counted from 1" in empty.err
    assert other.code == 1
    assert "a name must end in one of .pt2, .onnx" in other.err.splitlines()[-1]
