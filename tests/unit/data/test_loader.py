import itertools
import multiprocessing
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from PIL import Image

from sora_det.data import Benchmark, PadTo, PhotoMetricDistortion, load_benchmark, loader, register
from tests.tools.process import Started
from tests.unit.data.annotation_trees import write_domain

RESIZE = T.ResizeShortestEdge(short_edge_length=64, max_size=64)


@pytest.fixture
def benchmark(small_weather: Path) -> Benchmark:
    benchmark = load_benchmark(small_weather)
    register(benchmark)
    return benchmark


def train(benchmark: Benchmark, **changes: object) -> torch.utils.data.DataLoader:
    settings = {"augmentations": [RESIZE], "total_batch_size": 2, "num_workers": 0, "seed": 1}
    return loader.train_loader(benchmark=benchmark, **(settings | changes))


def ids(batches: torch.utils.data.DataLoader, count: int) -> list[list[str]]:
    return [[image["image_id"] for image in batch] for batch in itertools.islice(batches, count)]


def test_training_batches(benchmark: Benchmark) -> None:
    batches = list(itertools.islice(train(benchmark), 3))
    seen = {image["image_id"]: image for batch in batches for image in batch}
    assert set(seen) == {"a", "b", "c"}  # b holds no object and stays
    assert len(seen["b"]["instances"]) == 0
    assert seen["a"]["image"].shape == (3, 48, 64)
    assert seen["a"]["domain"] == "clear"
    torch.testing.assert_close(
        seen["a"]["instances"].gt_boxes.tensor,
        torch.tensor([[0.0, 0.0, 20.0, 16.0], [4.0, 4.0, 12.0, 18.0]]),
    )


def test_seed_fixes_the_order(benchmark: Benchmark) -> None:
    assert ids(train(benchmark), 6) == ids(train(benchmark), 6)
    assert ids(train(benchmark), 6) != ids(train(benchmark, seed=2), 6)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_goes_on_in_the_same_order(benchmark: Benchmark, workers: int) -> None:
    whole = ids(train(benchmark, num_workers=workers), 6)
    assert ids(train(benchmark, num_workers=workers, start=2), 4) == whole[2:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_job_that_is_asked_to_stop_still_gets_its_batches(
    benchmark: Benchmark, split: str, number: signal.Signals
) -> None:
    """All of its processes are told, by a terminal for instance; and one step is to be ended."""
    if split == "train":
        batches = train(benchmark, num_workers=1)
    else:
        name = benchmark.dataset_name("clear", "train")
        batches = loader.test_loader(dataset_name=name, augmentations=[RESIZE], num_workers=1)
    before = set(multiprocessing.active_children())
    rest = iter(batches)
    next(rest)
    (worker,) = set(multiprocessing.active_children()) - before
    subprocess.run(["kill", f"-{number.value}", str(worker.pid)], check=True)  # by someone else
    assert len(ids(rest, 2)) == 2
    assert worker.is_alive() or worker.exitcode == 0


@pytest.mark.parametrize("split", ["train", "test"])
def test_workers_do_not_wait_for_threads_that_were_not_forked(
    benchmark: Benchmark, split: str
) -> None:
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (0, 0), 3.0)  # starts the threads
        if split == "train":
            batches = train(benchmark, num_workers=2)
        else:
            batches = loader.test_loader(
                dataset_name=benchmark.dataset_name("clear", "test"),
                augmentations=[RESIZE],
                num_workers=2,
                change=lambda image, _: cv2.GaussianBlur(image, (0, 0), 3.0),
            )
        batches.timeout = 20
        assert len(ids(batches, 1)) == 1
    finally:
        cv2.setNumThreads(threads)


def test_batches_may_exceed_the_data_set(benchmark: Benchmark) -> None:
    (batch,) = ids(train(benchmark, total_batch_size=7), 1)
    assert len(batch) == 7


@pytest.mark.parametrize("size", [0, 3])
def test_batches_divide_among_processes(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(loader.comm, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match=rf"multiple of the 2 processes, got {size}"):
        train(benchmark, total_batch_size=size)


def test_difficult_objects_are_not_trained_on(benchmark: Benchmark) -> None:
    xml = benchmark.root / "clear" / "Annotations" / "c.xml"
    xml.write_text(xml.read_text().replace("</name>", "</name><difficult>1</difficult>"))
    batch = next(iter(train(benchmark, total_batch_size=3)))
    assert {image["image_id"]: len(image["instances"]) for image in batch} == {
        "a": 2,
        "b": 0,
        "c": 0,
    }


def test_images_are_rgb_whatever_the_file(benchmark: Benchmark) -> None:
    write_domain(benchmark.root / "clear", "train", {"red": [], "grey": []})
    images = benchmark.root / "clear" / "JPEGImages"
    Image.new("RGB", (32, 32), (250, 0, 0)).save(images / "red.jpg", quality=95)
    Image.new("L", (32, 32), 99).save(images / "grey.jpg", quality=95)
    batch = next(iter(train(benchmark)))
    found = {image["image_id"]: image["image"].float().mean(dim=(1, 2)) for image in batch}
    torch.testing.assert_close(found["red"], torch.tensor([250.0, 0, 0]), atol=6, rtol=0)
    torch.testing.assert_close(found["grey"], torch.full((3,), 99.0), atol=2, rtol=0)


def test_the_papers_augmentations(benchmark: Benchmark) -> None:
    augmentations = [
        T.ResizeScale(min_scale=0.1, max_scale=2.0, target_height=64, target_width=64),
        T.RandomCrop(crop_type="absolute", crop_size=(64, 64)),
        T.RandomFlip(),
        PadTo(64),
        PhotoMetricDistortion(),
    ]
    for batch in itertools.islice(train(benchmark, augmentations=augmentations), 20):
        for image in batch:
            assert image["image"].shape == (3, 64, 64)
            assert image["image"].dtype == torch.float32
            boxes = image["instances"].gt_boxes.tensor
            assert ((boxes >= 0) & (boxes <= 64)).all()


def test_loaders_from_lazy_configs(benchmark: Benchmark, small_weather: Path) -> None:
    node = L(loader.train_loader)(
        benchmark=L(load_benchmark)(file=str(small_weather)),
        augmentations=[
            L(T.RandomCrop)(crop_type="absolute", crop_size=[64, 64]),
            L(PadTo)(size=64),
            L(PhotoMetricDistortion)(contrast=[0.9, 1.1]),
        ],
        total_batch_size=2,
        num_workers=0,
    )
    assert len(next(iter(instantiate(node)))) == 2


def test_testing_passes_once_in_order(benchmark: Benchmark) -> None:
    name = benchmark.dataset_name("clear", "test")
    batches = list(loader.test_loader(dataset_name=name, augmentations=[RESIZE], num_workers=1))
    assert [[image["image_id"] for image in batch] for batch in batches] == [["d"], ["e"]]
    image = batches[0][0]
    assert image["image"].shape == (3, 48, 64)
    assert (image["width"], image["height"], image["domain"]) == (32, 24, "clear")
    assert "annotations" not in image
    assert "instances" not in image


@pytest.mark.parametrize("size", [(32, 24), (24, 32), (37, 11), (64, 64)])
def test_padded_images_give_boxes_in_pixels_of_the_file(
    benchmark: Benchmark, size: tuple[int, int]
) -> None:
    width, height = size
    folder = benchmark.root / "clear"
    write_domain(folder, "test", {"d": []})
    Image.new("RGB", size).save(folder / "JPEGImages" / "d.jpg")
    ((image,),) = loader.test_loader(
        dataset_name=benchmark.dataset_name("clear", "test"),
        augmentations=[RESIZE, PadTo(64)],
        num_workers=0,
    )
    assert image["image"].shape == (3, 64, 64)
    resized = RESIZE.get_transform(torch.zeros(height, width, 3).numpy())
    seen = Instances((64, 64), pred_boxes=Boxes([[0.0, 0.0, resized.new_w, resized.new_h]]))
    found = detector_postprocess(seen, image["height"], image["width"])
    torch.testing.assert_close(
        found.pred_boxes.tensor, torch.tensor([[0.0, 0.0, float(width), float(height)]])
    )


EXIT = """
import subprocess, sys
from torch.utils.data import DataLoader
from sora_det.data import loader

kept = iter(DataLoader(range(9), num_workers=1, worker_init_fn=loader._leave_stopping_to_others))
next(kept)
subprocess.run(["kill", "-TERM", str(kept._workers[0].pid)], check=True)
assert len(list(zip(range(5), kept))) == 5
sys.exit(75)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers end with SIGTERM there")
def test_a_process_ends_though_its_workers_were_told_to_stop(tmp_path: Path) -> None:
    ended = Started("-c", EXIT, folder=tmp_path / "run").wait(60)
    assert ended.code == 75, ended.err


def test_unregistered_benchmarks_are_named(benchmark: Benchmark) -> None:
    with pytest.raises(KeyError, match="unseen/clear/train"):
        train(replace(benchmark, name="unseen"))
