"""The pretraining script, small, and what its pieces promise."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from projects.toy_foundation import pretrain, scenes
from projects.toy_foundation.masked import hide, per_patch, targets
from sora_det.data.toy import toy_image

Run = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the script on a small network, three scenes and a work folder by name."""
    monkeypatch.setattr(pretrain, "SHAPE", {"embed_dim": 32, "depth": 2, "num_heads": 2})
    monkeypatch.setattr(pretrain, "SIZE", 64)
    monkeypatch.setattr(pretrain, "KEEP_EVERY", 1)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    small = ["--scenes", "3", "--steps", "4", "--batch", "2", "--workers", "1"]
    (tmp_path / "shared").mkdir()
    scenes.draw_all(tmp_path / "shared" / "scenes_0.npy", 3, seed=0, workers=1)

    def call(name: str, *arguments: str) -> Path:
        work, output = tmp_path / name, tmp_path / f"{name}.safetensors"
        work.mkdir(exist_ok=True)
        if not (work / "scenes_0.npy").exists():
            (work / "scenes_0.npy").symlink_to(tmp_path / "shared" / "scenes_0.npy")
        given = ["--output", str(output), "--work", str(work), *small, *arguments]
        monkeypatch.setattr(sys, "argv", ["pretrain.py", *given])
        try:
            pretrain.main()
        finally:
            torch.use_deterministic_algorithms(False)
        return output

    return call


def test_equal_settings_give_equal_files(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("whole")
    with safe_open(whole, "pt") as file:
        assert json.loads(file.metadata()["settings"])["steps"] == 4
    real = pretrain.schedule

    def stopped(step: int, steps: int) -> float:
        if step == 2:
            raise KeyboardInterrupt
        return real(step, steps)

    monkeypatch.setattr(pretrain, "schedule", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("stopped")
    monkeypatch.setattr(pretrain, "schedule", real)
    assert run("stopped").read_bytes() == whole.read_bytes()
    assert run("other", "--seed", "1").read_bytes() != whole.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint\.pt is of other settings, .*: delete it"):
        run("whole", "--rate", "0.5")


def test_training_lowers_the_loss(run: Run, tmp_path: Path) -> None:
    state = load_file(run("long", "--steps", "60", "--batch", "4", "--rate", "3e-3"))
    assert {value.dtype for value in state.values()} == {torch.float16}
    losses = [
        line.split()[1] for line in (tmp_path / "long" / "losses.txt").read_text().splitlines()
    ]
    assert float(losses[-1]) < 0.8 * float(losses[0])


def test_drawn_scenes_of_other_settings_are_refused(run: Run) -> None:
    run("first")
    with pytest.raises(ValueError, match=r"scenes_0\.npy holds \(3, 3, .* instead of \(2, 3, "):
        run("first", "--scenes", "2")


@pytest.mark.parametrize("given", ["--seen=0.6", "--seen=0", "--steps=0", "--rate=0", "--seed=-1"])
def test_settings_that_make_no_sense(run: Run, given: str) -> None:
    with pytest.raises(ValueError, match=r"start at 1 and seed at 0|must be in \(0, 0\.5\]"):
        run("never", given)


def test_views_show_one_scene_of_no_benchmark() -> None:
    views = scenes.draw_views(0, seed=0)
    assert views.shape == (3, 256, 256, 3)
    clear, scene = toy_image("daytime-clear", "pretrain", 0)
    np.testing.assert_array_equal(views[0], clear)
    for split in ("train", "test"):
        assert np.abs(toy_image("daytime-clear", split, 0)[0].astype(int) - clear).mean() > 10
    edges = [cv2.Canny(view, 60, 120) > 0 for view in views]
    assert all(edges[0][edge].mean() > 2 * edges[0].mean() for edge in edges[1:])
    assert len(scene.things) > 0


def test_a_look_is_the_same_crop_twice() -> None:
    columns = np.arange(256, dtype=np.uint8)
    view = np.repeat(np.stack([np.broadcast_to(columns, (256, 256))] * 3, axis=2)[None], 3, axis=0)
    rng = np.random.default_rng(0)
    for _ in range(10):
        seen, clear = scenes.look(view, rng, size=64)
        assert seen.shape == clear.shape == (64, 64, 3)
        assert seen.dtype == clear.dtype == np.float32
        assert 0 <= seen.min() <= seen.max() <= 1
        assert np.corrcoef(seen.mean(axis=(0, 2)), clear.mean(axis=(0, 2)))[0, 1] > 0.8


def test_squares_are_hidden_whole_and_apart() -> None:
    seen, hidden = hide(3, 8, 0.25, torch.Generator().manual_seed(0))
    assert seen.shape == hidden.shape == (3, 16)
    for shown, other in zip(seen.tolist(), hidden.tolist(), strict=True):
        assert len({*shown, *other}) == 32
        for corner in shown[::4]:
            assert corner % 2 == 0
            assert corner // 8 % 2 == 0
            assert {corner, corner + 1, corner + 8, corner + 9} <= {*shown}


def test_targets() -> None:
    flat = targets(torch.full((1, 3, 16, 16), 0.3), 8)
    assert flat.shape == (1, 4, 3 * 16 + 4 * 9)
    assert flat.abs().max() < 1e-4
    image = torch.full((1, 3, 16, 16), 0.2)
    image[..., 4:] = 0.6  # a vertical edge in the left patches: gradients along direction 0
    found = targets(image, 8)
    histogram = found[0, 0, 48:].unflatten(0, (9, 4))  # bin, cell
    assert histogram[0].min() > 1
    assert histogram[1:].abs().max() == 0
    brighter = targets(image * 1.5, 8)
    torch.testing.assert_close(brighter, found, rtol=0.1, atol=0.02)


def test_patches_are_in_the_order_of_the_vit() -> None:
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    assert per_patch(maps, 2)[0].tolist()[1] == [2, 3, 6, 7]
