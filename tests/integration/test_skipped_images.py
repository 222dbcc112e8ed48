"""Training on dirty data: it stops at once, or goes on, counts, and resumes bit by bit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L

from sora_det.data.images import BadImageError
from sora_det.engine.train import fit, score
from tests.integration.watch import Crash
from tests.tools.tiny_run import tiny

ITERATIONS = 8  # of 2 images: twice the 8 of the toy benchmark
TIMES = {"time", "data_time", "eta_seconds"}


@pytest.fixture(scope="module")
def dirty(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of which three training images have been cut off."""
    folder = tmp_path_factory.mktemp("dirty") / "toy_weather"
    shutil.copytree(toy.parent, folder)
    for file in bad_files(folder):
        file.write_bytes(file.read_bytes()[:900])
    return folder / toy.name


def bad_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("daytime_clear/VOC2007/JPEGImages/*_train_0000[257].jpg"))


def run(benchmark: Path, output: Path, *more: str, resume: bool = False, crash: int = -1) -> None:
    cfg = tiny(
        benchmark,
        output,
        "benchmark.on_bad_image=skip",
        f"train.max_iter={ITERATIONS}",
        "train.checkpoint_period=2",
        *more,
    )
    cfg.hooks.crash = L(Crash)(at=crash)
    fit(cfg, resume=resume)


def lines(file: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: row[key] for key in row if key not in TIMES} for row in rows]


@pytest.fixture(scope="module")
def whole(dirty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    run(dirty, output)
    return output


def test_skips_are_written_down_and_counted(whole: Path, dirty: Path) -> None:
    rows = lines(whole / "skipped_images.jsonl")
    files = [str(file) for file in bad_files(dirty.parent)]
    assert len(files) == 3
    first, second = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    assert {row["file"] for row in first} == {row["file"] for row in second} == set(files)
    for row in rows:
        assert row.keys() == {"iteration", "image_id", "file", "reason"}
        assert Path(str(row["file"])).stem == row["image_id"]
        assert "not a readable image" in str(row["reason"])
    counts = {
        row["iteration"]: row.get("skipped_images", 0) for row in lines(whole / "metrics.json")
    }
    assert counts == {i: sum(row["iteration"] <= i for row in rows) for i in range(ITERATIONS)}


def test_a_resumed_run_is_the_same(whole: Path, dirty: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        run(dirty, tmp_path, crash=7)
    before = len(lines(tmp_path / "skipped_images.jsonl"))
    run(dirty, tmp_path, "dataloader.train.num_workers=1", resume=True)
    for name in ("skipped_images.jsonl", "metrics.json"):
        assert lines(tmp_path / name) == lines(whole / name), name
    assert before > 0
    found, wanted = (
        torch.load(folder / "model_final.pth", weights_only=True)["model"]
        for folder in (tmp_path, whole)
    )
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


@pytest.mark.parametrize("check", [True, False])
def test_the_default_stops(
    dirty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    """Before the first step, unless that is not wanted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    more = ("benchmark.on_bad_image=error", f"train.check_images={check}")
    with pytest.raises(
        BadImageError, match="on_bad_image=skip trains without such images"
    ) as error:
        run(dirty, tmp_path, *more)
    before = "3 of 11 images of the source cannot be used, the first: "
    assert str(error.value).startswith((before if check else "") + "image 'daytime_clear_train_")
    assert not (tmp_path / "skipped_images.jsonl").exists()


def test_skipping_looks_at_what_is_scored_alone(
    dirty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run(dirty, tmp_path, "train.check_images=true", "train.max_iter=1")
    folder = tmp_path / "toy_weather"
    shutil.copytree(dirty.parent, folder)
    bad = next(folder.glob("daytime_clear/VOC2007/JPEGImages/*_test_*.jpg"))
    bad.write_bytes(bad.read_bytes()[:900])
    with pytest.raises(
        BadImageError, match=rf"^1 of 3 images of the source .*'{bad.stem}'"
    ) as error:
        run(folder / dirty.name, tmp_path / "run", "train.check_images=true")
    assert "on_bad_image" not in str(error.value)


def test_clean_data_leave_no_trace(toy: Path, tmp_path: Path) -> None:
    run(toy, tmp_path, "train.max_iter=2")
    assert not (tmp_path / "skipped_images.jsonl").exists()
    assert not any("skipped_images" in row for row in lines(tmp_path / "metrics.json"))


def test_scores_need_every_image(toy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "toy_weather"
    shutil.copytree(toy.parent, folder)
    bad = next(folder.glob("dusk_rainy/VOC2007/JPEGImages/*.jpg"))
    bad.write_bytes(bad.read_bytes()[:900])
    cfg = tiny(folder / toy.name, tmp_path / "run", "benchmark.on_bad_image=skip")
    with pytest.raises(BadImageError, match=rf"^image '{bad.stem}': .*not a readable image"):
        score(cfg)
    assert not (tmp_path / "run" / "results.json").exists()
