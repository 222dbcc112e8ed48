"""The weights that come with the package."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from sora_det.adapt import SoRA
from sora_det.adapt.record import recall
from sora_det.backbones import read_state, vit
from sora_det.backbones.weights import ASSETS, describe_file

ROOT = Path(__file__).resolve().parents[3]
CARD = (ROOT / "projects" / "toy_foundation" / "MODEL_CARD.md").read_text()
FILE = ASSETS / "toy_foundation.safetensors"


def test_the_card_is_of_this_file() -> None:
    digest = re.search(r"SHA-256 `([0-9a-f]{64})`", CARD)
    assert digest is not None
    assert describe_file("toy_foundation") == f"{FILE.name} (sha256 {digest[1][:16]})"
    state = read_state("toy_foundation")
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert sum(value.numel() for value in state.values()) < 4e6
    assert FILE.stat().st_size < 8e6


def test_it_is_built_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name is no path
    cfg = LazyConfig.load(str(ROOT / "configs" / "common" / "backbones" / "toy_foundation.py"))
    net = instantiate(cfg.backbone.net)
    assert not net.random_init
    assert net.weights_source == describe_file("toy_foundation")
    for name, value in read_state("toy_foundation").items():
        assert torch.equal(net.state_dict()[name], value.float()), name


def test_its_fingerprint_is_that_of_the_card() -> None:
    cfg = LazyConfig.load(str(ROOT / "configs" / "common" / "backbones" / "toy_foundation.py"))
    net = SoRA(rank=2)(instantiate(cfg.backbone.net))
    found = re.search(r"fingerprint `([0-9a-f]{16})`", CARD)
    adaptation = recall(net)
    assert found is not None
    assert adaptation is not None
    assert adaptation.fingerprint[:16] == found[1]


def test_other_names_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no weights file at toy_foundations"):
        vit("vit_tiny_patch16_224", weights="toy_foundations")


def test_a_wheel_holds_it(tmp_path: Path) -> None:
    shutil.copy(ROOT / "setup.py", tmp_path)
    shutil.copytree(ROOT / "sora_det", tmp_path / "sora_det")
    for name in ("LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, "setup.py", "-q", "bdist_wheel"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(f"sora_det/assets/{FILE.name}") == FILE.read_bytes()
