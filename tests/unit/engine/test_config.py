from pathlib import Path

import pytest

from sora_det.engine.config import load_config

TEXT = """
from collections import OrderedDict
from textwrap import TextWrapper
from detectron2.config import LazyCall as L

net = L(OrderedDict)(sizes=[1, 2], inner=dict(depth=3))  # of C, without a signature
model = L(TextWrapper)(placeholder="${net}", width=70)
train = dict(output_dir="output", max_iter=10, seed=0, options=dict(a=1))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.py"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    ("override", "want"),
    [
        ("train.max_iter=20", 20),
        ("train.max_iter=null", None),
        ("train.max_iter=", ""),
        ("train.output_dir=/some/where-1.0_x", "/some/where-1.0_x"),
        ("train.output_dir='lr=1e-4, (b)'", "lr=1e-4, (b)"),
        ("net.sizes=[3,4,5]", [3, 4, 5]),
        ("net.sizes.1=7", 7),
        ("model.tabsize=4", 4),  # an argument that the config does not mention
        ("model.placeholder=text", "text"),  # in place of a reference
    ],
)
def test_values(file: Path, override: str, want: object) -> None:
    node = load_config(file, [override])
    for part in override.partition("=")[0].split("."):
        node = node[int(part)] if part.isdigit() else node[part]
    assert node == want


def test_a_dictionary_is_merged(file: Path) -> None:
    cfg = load_config(file, ["train={max_iter: 5, options: {a: 2}}"])
    assert (cfg.train.max_iter, cfg.train.seed, cfg.train.options) == (5, 0, {"a": 2})


def test_several_overrides_in_order(file: Path) -> None:
    assert load_config(file, ["train.max_iter=1", "train.max_iter=2"]).train.max_iter == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_itre=1", "config has no key 'train.max_itre'; the nearest is 'train.max_iter'"),
        ("train={max_itre: 1}", "no key 'train.max_itre'; the nearest is 'train.max_iter'"),
        ("train={options: {b: 1}}", "no key 'train.options.b'"),
        ("train.max_iter.x=1", "no key 'train.max_iter.x'"),
        ("net.sizes.2=1", "no key 'net.sizes.2'"),
        ("qqqq=1", "config has no key 'qqqq'"),
        ("+train.max_iter=1", "no key '+train.max_iter'"),
        ("train.max_iter", "override 'train.max_iter' is not of the form key=value"),
        ("=1", "override '=1' is not of the form key=value"),
        ("--resume", "override '--resume' is not of the form key=value"),
        ("net.sizes=[1", "cannot read the value of net.sizes: "),
        ("train.output_dir=a=b", "needs quotes: \"train.output_dir='a=b'\""),
        ("train.output_dir=a,b", "has several values; a list is written [a,b]"),
        (
            "model.placeholder.sizes=[1]",
            "'model.placeholder' is a reference to ${net}; override 'net.sizes' instead",
        ),
    ],
)
def test_wrong_override(file: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        load_config(file, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_given() -> None:
    with pytest.raises(ValueError, match="pass --config-file"):
        load_config("")


def test_wrong_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "run.txt").write_text("")
    with pytest.raises(ValueError, match="has to be a python or yaml file"):
        load_config(tmp_path / "run.txt")


@pytest.mark.parametrize("seed", ["null", "-1", "1.5", "abc"])
def test_seed_must_be_a_number_that_repeats_the_run(file: Path, seed: str) -> None:
    with pytest.raises(ValueError, match=r"train\.seed must be a whole number from 0"):
        load_config(file, [f"train.seed={seed}"])
