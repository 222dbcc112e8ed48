"""Commands and code in the guides are not just prose."""

import re
import shlex
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from detectron2.engine import default_argument_parser
from torch import nn

from sora_det.data import load_benchmark
from sora_det.engine.config import load_config

ROOT = Path(__file__).parents[2]
FOLDERS = (".", "configs", "docs", "projects", "scripts", "sora_det", "tests", "third_party/*")
GUIDES = [file for folder in FOLDERS for file in sorted(ROOT.glob(f"{folder}/*.md"))]


def indented(file: Path) -> str:
    """Return the indented code blocks of a guide, continued lines joined."""
    lines = (line[4:] for line in file.read_text().splitlines() if line.startswith("    "))
    return re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))


def commands(start: str) -> list[str]:
    return [
        line for file in GUIDES for line in indented(file).splitlines() if line.startswith(start)
    ]


def test_guides_are_found() -> None:
    names = {str(file.relative_to(ROOT)) for file in GUIDES}
    assert {"README.md", "CONTRIBUTING.md"} <= names
    assert {f"{name}/README.md" for name in ("configs", "projects", "sora_det", "tests")} <= names
    assert "bash scripts/quickstart.sh" in commands("bash")
    assert "bash scripts/test.sh" in commands("bash")


@pytest.mark.parametrize("command", commands("python scripts/train_net.py"))
def test_training_commands(command: str) -> None:
    args = default_argument_parser().parse_args(shlex.split(command)[2:])
    cfg = load_config(ROOT / args.config_file, args.opts)
    assert cfg.train.output_dir.startswith("output/")


@pytest.mark.parametrize("command", [*commands("bash"), *commands("python")])
def test_scripts_exist(command: str) -> None:
    first, *rest = shlex.split(command)[1:]
    file = f"{rest[0].replace('.', '/')}.py" if first == "-m" else first
    assert (ROOT / file).is_file()


@pytest.mark.parametrize("file", GUIDES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_is_left_to_fill_in(file: Path) -> None:
    assert "@@" not in file.read_text()


@pytest.mark.parametrize("file", GUIDES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
        if "://" not in target:
            assert (file.parent / target).exists(), target


def test_benchmark_example(tmp_path: Path) -> None:
    text = indented(ROOT / "README.md")
    example = text[text.index("name: my_weather") :].partition("python ")[0]
    (tmp_path / "my_weather.yaml").write_text(example)
    assert load_benchmark(tmp_path / "my_weather.yaml").targets[0].name == "fog"


def test_code_example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The example runs as it stands, but for the download."""
    pretrained_net = timm.create_model("vit_tiny_patch16_224", depth=3)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: deepcopy(pretrained_net))
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    assert len([line for line in code.splitlines() if line]) <= 10
    names: dict[str, Any] = {}
    exec(code, names)
    plain, trained = names["plain"], names["vit"]
    assert type(plain.blocks[2].attn.qkv) is nn.Linear
    x = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(plain(x), trained(x))
    assert not torch.allclose(plain(x), pretrained_net(x), atol=1e-5)
