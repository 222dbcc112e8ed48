"""What readers did not refuse before they were fuzzed, each by the message that it gets now."""

import contextlib
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sora_det.adapt import AdaptationError, attach, collect
from sora_det.adapt.peft_patterns import compile_patterns, of_pattern
from sora_det.adapt.start_file import KEY, read_start
from sora_det.adapt.store import checksum
from sora_det.backbones.weights import read_state
from sora_det.data.checks import Places, check_pixels
from sora_det.engine.checkpoint import load_model, model_state, read_checkpoint
from sora_det.engine.metrics import kept_lines
from sora_det.evaluation import DomainTable
from sora_det.evaluation.compare import by_method, compare
from sora_det.evaluation.saved import read_domain, write_domain
from sora_det.evaluation.strict_json import parse
from sora_det.report.training import Training, read_training
from tests.fuzz.weights import Detector, adapted, checkpoint
from tests.tools.report_runs import domain_data, metrics_line
from tests.tools.results import table

Change = Callable[[dict[str, Any]], object]


def saved(folder: Path, state: Any) -> Path:
    torch.save(state, folder / "model_final.pth")
    return folder / "model_final.pth"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.update(model=[1]), "its model is a list"),
        (lambda state: state["model"].update(a=1), "a in its model is a int, not a tensor"),
        (lambda state: state["model"].update({2: torch.ones(1)}), "2 in its model is a Tensor"),
        (lambda state: state.update(omitted=[]), "its part omitted is malformed"),
        (lambda state: state["omitted"].update(names="ab"), "its part omitted is malformed"),
        (lambda state: state["omitted"].update(names=[1]), "its part omitted is malformed"),
        (lambda state: state["omitted"].pop("fingerprint"), "its part omitted is malformed"),
        (lambda state: state.update(trainer=1), "its part trainer is malformed"),
        (lambda state: state["trainer"].update(iteration="9"), "its part trainer is malformed"),
        (lambda state: state["origin"].update(checkpoint="other"), "its part origin is malformed"),
        (lambda state: state["origin"].update(weights=1), "its part origin is malformed"),
        (lambda state: state["model"].update(a=torch.ones(1).expand(10**9)), "a claims 4000000000"),
    ],
)
def test_parts_of_a_checkpoint(tmp_path: Path, change: Change, message: str) -> None:
    state = checkpoint()
    change(state)
    with pytest.raises(ValueError, match=f"model_final.pth is no checkpoint: {message}"):
        read_checkpoint(saved(tmp_path, state))


def test_what_a_checkpoint_leaves_out_are_parameters(tmp_path: Path) -> None:
    state = checkpoint()
    names = state["omitted"]["names"]
    del state["model"]["backbone.blocks.0.up0"]
    names.append("backbone.blocks.0.up0")  # a buffer
    found = read_checkpoint(saved(tmp_path, state))
    with pytest.raises(ValueError, match=r"1 unexpected: backbone\.blocks\.0\.up0"):
        load_model(adapted(), found)


def test_a_valid_checkpoint_is_read(tmp_path: Path) -> None:
    found = read_checkpoint(saved(tmp_path, checkpoint()))
    load_model(adapted(), found)
    assert found["trainer"]["iteration"] == 9
    whole = model_state(Detector(), whole=True)
    load_model(Detector(), read_checkpoint(saved(tmp_path, whole)))


def test_names_of_a_checkpoint_are_fit_to_show(tmp_path: Path) -> None:
    state = {"model": {"\x1b[2J" * 900: torch.ones(1)}}
    with pytest.raises(ValueError, match="does not fit the model") as error:
        load_model(Detector(), read_checkpoint(saved(tmp_path, state)))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


def test_weights_that_hold_themselves(tmp_path: Path) -> None:
    state: dict[str, Any] = {}
    state["model"] = state
    with pytest.raises(ValueError, match="holds values that are no tensors: model"):
        read_state(saved(tmp_path, state))


def test_weights_in_all_their_wrappers(tmp_path: Path) -> None:
    state = {"teacher": {"model": {"state_dict": {"a": torch.ones(1)}}}}
    assert list(read_state(saved(tmp_path, state))) == ["a"]


def test_a_scale_that_is_a_large_whole_number() -> None:
    adapter = collect(adapted().backbone)
    layers = {name: replace(info, scale=10**30) for name, info in adapter.layers.items()}
    net = attach(Detector().backbone, replace(adapter, layers=layers))
    assert net.blocks[0].scale == 1e30


def test_a_start_that_lacks_a_factor(tmp_path: Path) -> None:
    factors = {"blocks.0.up": torch.ones(1, 2, 1)}
    head = f"{{}}\n{checksum('{}', factors)}"
    save_file(factors, tmp_path / "start.safetensors", metadata={KEY: head})
    assert read_start(tmp_path / "start.safetensors", {}) is None


@pytest.mark.parametrize(
    "iteration", ['"5"', "null", "1.5", "true", "[" * 100_000, "9" * 400, "{}", "1e400"]
)
def test_iterations_that_are_no_numbers(tmp_path: Path, iteration: str) -> None:
    lines = [metrics_line(0), f'{{"iteration": {iteration}, "a": 1}}\n', metrics_line(40)]
    file = tmp_path / "metrics.json"
    file.write_text("".join(lines))
    assert kept_lines(file, 30) == lines[:1]
    found = read_training(tmp_path)
    assert isinstance(found, Training)
    assert found.series["total_loss"][0] == [0.0, 40.0]


def test_a_table_that_divides_by_next_to_nothing() -> None:
    found = table(1e-320, 50.0, 60.0)
    assert found.relative_robustness() is None
    assert DomainTable.from_json(found.to_json()) == found
    compare(by_method([found])).render("json")


def test_a_table_without_splits() -> None:
    found = table(40.0, 50.0, 60.0)
    found = replace(found, protocol=replace(found.protocol, splits=()))
    found = DomainTable.from_json(found.to_json())
    assert "| domain | dataset | split file |" in found.to_markdown()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "must be JSON: maximum recursion"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', r"a key twice among \['c'\]"),
        ("9" * 5000, "must be JSON: Exceeds the limit"),
        ("{", "must be JSON: Expecting"),
    ],
)
def test_json_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e8, -(10**400), 10**400])
def test_numbers_beyond_any_image(value: float) -> None:
    with pytest.raises(ValueError, match="a box must hold finite numbers within"):
        check_pixels((1, value), "a box")
    check_pixels((-1e7, 0, 65535), "a box")


def test_links_within_a_benchmark(tmp_path: Path) -> None:
    """Its folders may lie anywhere; what its annotations name may not."""
    disk, root = tmp_path / "disk", tmp_path / "root"
    (disk / "images" / "sub").mkdir(parents=True)
    (disk / "other").mkdir()
    root.mkdir()
    for name in ("images/a.jpg", "images/sub/b.jpg", "other/c.jpg"):
        (disk / name).touch()
    (root / "images").symlink_to(disk / "images")
    (root / "images" / "inside.jpg").symlink_to(disk / "images" / "a.jpg")
    (root / "images" / "outside.jpg").symlink_to(disk / "other" / "c.jpg")
    (root / "images" / "folder").symlink_to(disk / "other")
    (root / "beside.jpg").symlink_to(disk / "images" / "a.jpg")
    places = Places(root, root / "images")
    for name in ("images/a.jpg", "images/sub/b.jpg", "images/inside.jpg", "beside.jpg"):
        places.check(root / name)
    for name in ("images/outside.jpg", "images/folder/c.jpg"):
        with pytest.raises(ValueError, match="is a link out of"):
            places.check(root / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": np.array([np.nan, 0.1])}, "score holds numbers that are not finite"),
        ({"box": np.full((2, 4), 1e30)}, "box holds numbers that are not finite or beyond"),
        ({"size": np.full((1, 2), np.inf)}, "size holds numbers"),
        ({"files": np.array(["../a.jpg"])}, "names a file outside: '../a.jpg'"),
        ({"files": np.array(["C:\\a.jpg"])}, "names a file outside"),
        ({"header": np.array(json.dumps({"format": 1, "role": "target"}))}, "'domain'"),
        ({"header": np.array("[" * 100_000)}, "maximum recursion depth"),
    ],
)
def test_detections_that_are_refused(
    tmp_path: Path, change: dict[str, np.ndarray], message: str
) -> None:
    path = write_domain(domain_data("fog", images=1), tmp_path)
    with np.load(path) as stored:
        np.savez(path, **{**dict(stored), **change})
    with pytest.raises(ValueError, match=message) as error:
        read_domain(path)
    assert "fog.npz" in str(error.value)


def test_odd_headers_of_arrays_cause_no_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """One as Python 2 wrote them, and one with an escape that Python advises against."""
    path = write_domain(domain_data("fog", images=1), tmp_path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    score = members["score.npy"]
    for plain, odd in ((b",), }  ", b"L,), } "), (b"'shape'", b"'sh\\pe'")):
        assert plain in score
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {**members, "score.npy": score.replace(plain, odd)}.items():
                archive.writestr(name, content)
        with contextlib.suppress(ValueError):
            read_domain(path)
    assert [str(one.message) for one in recwarn] == []


def test_detections_that_are_compressed(tmp_path: Path) -> None:
    path = write_domain(domain_data("fog", images=1), tmp_path)
    with np.load(path) as stored:
        np.savez_compressed(path, **stored)
    with pytest.raises(ValueError, match="it is compressed"):
        read_domain(path)


NAMES = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(80) for p in "qkvo"]


def test_odd_patterns_cause_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    found = compile_patterns({"[[a]": 1, "[a||b]": 2}, ["a"], "config")
    assert of_pattern(found, "a", 0) == 1
    assert not recwarn.list


def test_patterns_as_people_write_them() -> None:
    patterns = {
        "^model.layers.0.self_attn.q_proj": 1,
        r"layers\.(1|2|3)\..*k_proj": 2,
        r"(model\.)?layers.\d+.self_attn.v_proj": 3,
        "o_proj": 4,
    }
    found = compile_patterns(patterns, NAMES, "config")
    values = [of_pattern(found, name, 0) for name in NAMES]
    assert values[:8] == [1, 0, 3, 4, 0, 2, 3, 4]
    # Every layer by its whole name, as this package writes them.
    whole = {f"^{name.replace('.', '[.]')}": i for i, name in enumerate(NAMES)}
    found = compile_patterns(whole, NAMES, "config")
    assert [of_pattern(found, name, -1) for name in NAMES] == list(range(len(NAMES)))


@pytest.mark.parametrize("pattern", [".*.*.*x", "a?" * 30 + "x", "(a|b)" * 40, ".*x"])
def test_patterns_take_a_bounded_time(pattern: str) -> None:
    """As many of them as are let through, on names as long as can be."""
    names = ["a" * 500]
    count = 1
    while count < 10**5:
        try:
            found = compile_patterns({f"{pattern}{i}": 1 for i in range(count)}, names, "config")
        except AdaptationError:
            break
        start = time.process_time()
        assert of_pattern(found, names[0], 0) == 0
        assert time.process_time() - start < 20
        count *= 10
