"""An interrupted run goes on where it was: rates, images, metrics."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L
from omegaconf import DictConfig
from torch import Tensor

from sora_det.adapt import svd
from sora_det.engine.train import fit
from tests.integration.watch import Crash, Seen, Watch
from tests.tools.tiny_heads import use_head
from tests.tools.tiny_run import tiny

ITERATIONS = 6


def config(toy: Path, output: Path, *more: str) -> DictConfig:
    settings = (f"train.max_iter={ITERATIONS}", "train.checkpoint_period=3", *more)
    cfg = tiny(toy, output, *settings)
    cfg.hooks.watch = L(Watch)()
    return cfg


@pytest.fixture(scope="module")
def whole(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Watch:
    """A run without interruption."""
    fit(config(toy, tmp_path_factory.mktemp("whole")))
    return Watch.last


@pytest.fixture(scope="module")
def resumed(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Watch, Path]:
    """The same run, cut off after four iterations and resumed from its checkpoint after three."""
    output = tmp_path_factory.mktemp("resumed")
    cut = config(toy, output)
    cut.hooks.crash = L(Crash)(at=4)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(cut)
    cut_off = Watch.last
    assert list(cut_off.rates) == [0, 1, 2, 3]
    assert (output / "last_checkpoint").read_text() == "model_0000002.pth"
    with no_decomposition():
        fit(config(toy, output), resume=True)
    return Watch.last, output


@contextmanager
def no_decomposition() -> Iterator[None]:
    """Fail where weights are decomposed: how they were is in the run's start file."""

    def fail(*_: object) -> None:
        raise AssertionError("decomposed again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svd, "_FIND", dict.fromkeys(svd._FIND, fail))
        yield


def test_goes_on_where_the_checkpoint_was_made(whole: Watch, resumed: tuple[Watch, Path]) -> None:
    watch, output = resumed
    assert watch.first_iteration == 3
    assert list(watch.rates) == [3, 4, 5]
    assert json.loads((output / "results.json").read_text())["run"]["iteration"] == ITERATIONS


def test_repeats_learning_rate_and_weight_decay(whole: Watch, resumed: tuple[Watch, Path]) -> None:
    watch, _ = resumed
    assert watch.rates == {i: whole.rates[i] for i in (3, 4, 5)}
    rates = [watch.rates[i]["adapter"] for i in (3, 4, 5)]
    assert len(set(rates)) == 3  # the schedules do move, so that the equality means something


def test_goes_on_with_the_images_that_come_next(toy: Path, tmp_path: Path) -> None:
    def names(iterations: int, output: Path, resume: bool = False) -> list[str]:
        cfg = config(toy, output, f"train.max_iter={iterations}")
        cfg.dataloader.train._target_ = "tests.integration.watch.Seen.loader"
        Seen.names = []
        fit(cfg, resume=resume)
        return Seen.names

    whole = names(ITERATIONS, tmp_path / "whole")
    assert len(set(whole)) == 8  # 12 images were seen, of 8
    assert names(3, tmp_path / "parts") == whole[:6]
    assert names(ITERATIONS, tmp_path / "parts", resume=True) == whole[6:]


def test_metrics_go_on(resumed: tuple[Watch, Path]) -> None:
    rows = [json.loads(line) for line in (resumed[1] / "metrics.json").read_text().splitlines()]
    assert [row["iteration"] for row in rows if "lr/head" in row] == [0, 1, 2, 3, 4, 5]


def test_retinanet_goes_on_counting_anchors(toy: Path, tmp_path: Path) -> None:
    """Its loss is divided by a running number; and it is scripted, which rounds as it likes."""

    def run(output: Path, *, resume: bool = False, crash: int = ITERATIONS) -> dict[str, Tensor]:
        cfg = use_head(config(toy, output), "retinanet")
        cfg.hooks.crash = L(Crash)(at=crash)
        fit(cfg, resume=resume)
        return Watch.last.after

    whole = run(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path / "parts", crash=4)
    parts = run(tmp_path / "parts", resume=True)
    assert [name for name, value in whole.items() if not torch.equal(value, parts[name])] == []


def test_a_finished_run_is_only_scored(toy: Path, resumed: tuple[Watch, Path]) -> None:
    output = resumed[1]
    scored = (output / "results.json").read_text()
    (output / "results.json").unlink()
    before = Watch.last
    fit(config(toy, output), resume=True)
    assert not hasattr(Watch.last, "before"), "trained again"
    assert Watch.last is not before
    assert (output / "results.json").read_text() == scored


def test_without_a_checkpoint_it_starts_from_the_beginning(toy: Path, tmp_path: Path) -> None:
    fit(config(toy, tmp_path, "train.max_iter=1"), resume=True)
    assert Watch.last.first_iteration == 0


def test_without_resume_no_run_is_overwritten(toy: Path, resumed: tuple[Watch, Path]) -> None:
    with pytest.raises(ValueError, match="pass --resume to go on with it, or choose another"):
        fit(config(toy, resumed[1], "train.max_iter=1"))


def test_checkpoint_of_another_rank(toy: Path, resumed: tuple[Watch, Path]) -> None:
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        fit(config(toy, resumed[1], "adaptation.rank=3"), resume=True)
    message = str(caught.value)
    assert "96 of another shape: backbone.net.blocks.0.attn.qkv." in message
    assert "missing" not in message
    assert "unexpected" not in message
    assert "made by another config?" in message
    assert "\n" not in message


def test_checkpoint_of_another_method(toy: Path, resumed: tuple[Watch, Path]) -> None:
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        fit(config(toy, resumed[1], "adaptation.targets=[qkv]"), resume=True)
    assert "missing: backbone.net.blocks.0.attn.proj.weight" in str(caught.value)
    assert "unexpected: backbone.net.blocks.0.attn.proj." in str(caught.value)
