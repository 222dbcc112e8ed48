"""An interrupted run goes on where it was: rates, images, metrics."""

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.engine import HookBase
from omegaconf import DictConfig
from torch import Tensor

from sora_det.adapt import svd
from sora_det.engine import files
from sora_det.engine.checkpoint import FINAL, POINTER
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


def end_of(cfg: DictConfig, *, resume: bool = False, crash: int = ITERATIONS) -> dict[str, Tensor]:
    """Train, until a crash perhaps, and return the weights and what the scaler of losses holds."""
    cfg.hooks.crash = L(Crash)(at=crash)
    fit(cfg, resume=resume)
    state = torch.load(Path(cfg.train.output_dir) / FINAL, weights_only=True)["trainer"]["scaler"]
    return Watch.last.after | {name: torch.tensor(value) for name, value in state.items()}


def check_exact(make: Callable[[Path], DictConfig], folder: Path) -> dict[str, Tensor]:
    """Compare a run with one that was cut off; return its end."""
    whole = end_of(make(folder / "whole"))
    with pytest.raises(RuntimeError, match="power cut"):
        end_of(make(folder / "parts"), crash=4)
    parts = end_of(make(folder / "parts"), resume=True)
    check_equal(parts, whole)
    return whole


def check_equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def test_retinanet_goes_on_counting_anchors(toy: Path, tmp_path: Path) -> None:
    """Its loss is divided by a running number; and it is scripted, which rounds as it likes."""
    check_exact(lambda output: use_head(config(toy, output), "retinanet"), tmp_path)


def test_float16_goes_on_with_its_scale(toy: Path, tmp_path: Path) -> None:
    """With a scale that has been halved, and counts the steps until it is doubled."""
    end = check_exact(lambda output: config(toy, output, "train.precision=float16"), tmp_path)
    assert 0 < end["scale"] < 2.0**16
    assert 0 < end["_growth_tracker"]


def test_a_full_disk_ends_a_run_that_goes_on_later(
    toy: Path, whole: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files._Hashed.write

    def refuse(file: Any, data: bytes) -> int:
        if (tmp_path / POINTER).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    with monkeypatch.context() as full:
        full.setattr(files._Hashed, "write", refuse)
        with pytest.raises(OSError, match=r"cannot write .*model_final\.pth: the disk is full"):
            fit(config(toy, tmp_path))
    assert (tmp_path / POINTER).read_text() == "model_0000002.pth"
    assert not list(tmp_path.glob(".model_*"))
    fit(config(toy, tmp_path), resume=True)
    after = Watch.last.after
    assert [
        name for name, value in whole.after.items() if not torch.equal(value, after[name])
    ] == []


class Vanish(HookBase):
    """Removes the folder of a run before a step."""

    def __init__(self, folder: str, at: int) -> None:
        self.folder, self.at = folder, at

    def before_step(self) -> None:
        if self.trainer.iter == self.at:
            shutil.rmtree(self.folder)


def test_a_folder_that_vanishes_ends_a_run_with_these_words(toy: Path, tmp_path: Path) -> None:
    """In its second step, when Detectron2's own displays cannot even end."""
    cfg = config(toy, tmp_path / "run")
    cfg.hooks.vanish = L(Vanish)(folder=str(tmp_path / "run"), at=1)
    with pytest.raises(OSError, match=r"cannot write .*metrics\.json: the folder has vanished"):
        fit(cfg)


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
