"""Bad images while training and testing: an error, or another image in their place."""

import itertools
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from PIL import Image

from sora_det.data import Benchmark, load_benchmark, loader, records, register
from sora_det.data.audit import check_source
from sora_det.data.images import BadImageError
from sora_det.data.loader import Skipped, TrainMapper
from sora_det.data.order import candidates, image_at, random_numbers
from tests.unit.data.annotation_trees import write_coco, write_domain, write_xml

RESIZE = T.ResizeShortestEdge(short_edge_length=64, max_size=64)
SIZE = "<size><width>32</width><height>24</height></size>"
BOX = ("car", 5, 5, 20, 16)


@pytest.fixture
def benchmark(small_weather: Path) -> Benchmark:
    """Eight training images, a to h, whose annotations say their size."""
    found = load_benchmark(small_weather)
    folder = found.root / "clear"
    write_domain(folder, "train", {name: [] for name in "abcdefgh"})
    for name in "abcdefgh":
        write_xml(folder / "Annotations" / f"{name}.xml", [BOX], size=SIZE)
    return found


def image_of(benchmark: Benchmark, name: str) -> Path:
    return benchmark.root / "clear" / "JPEGImages" / f"{name}.jpg"


def cut(benchmark: Benchmark, *names: str) -> None:
    """Leave half of some images."""
    for name in names:
        noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
        Image.fromarray(noise).save(image_of(benchmark, name))
        data = image_of(benchmark, name).read_bytes()
        image_of(benchmark, name).write_bytes(data[: len(data) // 2])


def train(benchmark: Benchmark, **changes: Any) -> torch.utils.data.DataLoader:
    register(benchmark)
    settings = {"augmentations": [RESIZE, T.RandomFlip()], "total_batch_size": 2, "seed": 1}
    return loader.train_loader(benchmark=benchmark, **({"num_workers": 0} | settings | changes))


def take(benchmark: Benchmark, count: int, **changes: Any) -> list[dict[str, Any]]:
    """The first samples of a run."""
    loaded = train(benchmark, total_batch_size=1, **changes)
    return [sample for (sample,) in itertools.islice(loaded, count)]


def complaint(batches: torch.utils.data.DataLoader) -> str:
    """What is wrong with the first image that is bad."""
    try:
        for _ in batches:
            pass
    except BadImageError as error:
        error.__traceback__ = None  # its frames hold the workers, which would end 5 s later
        return str(error)
    pytest.fail("no error")


def ids(samples: list[dict[str, Any]]) -> list[str]:
    return [sample["image_id"] for sample in samples]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_names_image_and_file_once(benchmark: Benchmark, workers: int) -> None:
    cut(benchmark, "c")
    text = complaint(train(benchmark, num_workers=workers))
    assert text.startswith(f"image 'c': {image_of(benchmark, 'c')}: not a readable image: ")
    assert text.endswith(
        "; benchmark.on_bad_image=skip trains without such images, and "
        "scripts/check_benchmark.py finds them all"
    )
    assert "\n" not in text  # nothing of a worker's traceback


def test_another_size_than_the_annotation_is_an_error(benchmark: Benchmark) -> None:
    Image.new("RGB", (16, 12)).save(image_of(benchmark, "c"))
    with pytest.raises(BadImageError, match=r"'c': .* 16x12 pixels, but its annotation says 32x24"):
        take(benchmark, 8)


def test_another_image_stands_in(benchmark: Benchmark) -> None:
    clean = take(benchmark, 24)
    cut(benchmark, "c", "f")
    image_of(benchmark, "h").write_bytes(b"")
    found = take(replace(benchmark, on_bad_image="skip"), 24)
    assert sum(one in "cfh" for one in ids(clean)) == 9  # three epochs
    for before, now in zip(clean, found, strict=True):
        if before["image_id"] in "cfh":
            assert now["image_id"] in "abdeg"
            assert before["image_id"] == now["skipped"][0].image_id
        else:
            assert "skipped" not in now
            assert before["image_id"] == now["image_id"]
            assert torch.equal(before["image"], now["image"])
    assert len({now["image_id"] for now in found if "skipped" in now}) > 2


def test_what_is_said_of_a_skipped_image(benchmark: Benchmark) -> None:
    cut(benchmark, "c")
    found = take(replace(benchmark, on_bad_image="skip"), 8)
    (skipped,) = (one for sample in found for one in sample.get("skipped", ()))
    assert isinstance(skipped, Skipped)
    assert (skipped.image_id, skipped.file) == ("c", str(image_of(benchmark, "c")))
    assert "not a readable image" in skipped.reason


def test_stand_ins_follow_from_seed_and_place_alone(benchmark: Benchmark) -> None:
    cut(benchmark, "a", "b", "c", "d")
    lenient = replace(benchmark, on_bad_image="skip")
    whole = take(lenient, 20)
    assert ids(whole) != ids(take(lenient, 20, seed=2))
    for part in (take(lenient, 12, start=8), take(lenient, 12, start=8, num_workers=2)):
        assert ids(part) == ids(whole[8:])
        for one, other in zip(part, whole[8:], strict=True):
            assert torch.equal(one["image"], other["image"])
            assert one.get("skipped") == other.get("skipped")


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_bad_images_is_an_error(benchmark: Benchmark, workers: int) -> None:
    lenient = replace(benchmark, on_bad_image="skip")
    batches = train(lenient, num_workers=workers)
    cut(benchmark, *"abcdefgh")  # after the annotations were read: a disk has gone
    assert complaint(batches).startswith("none of the 8 training images can be used; the last")


def test_one_good_image_is_enough(benchmark: Benchmark) -> None:
    cut(benchmark, *"abcdefg")
    assert set(ids(take(replace(benchmark, on_bad_image="skip"), 12))) == {"h"}


def test_candidates_are_all_images_once() -> None:
    for position in range(20):
        found = list(candidates(position, images=7, seed=3))
        assert found[0] == image_at(position, images=7, seed=3)
        assert sorted(found) == list(range(7))
    orders = {tuple(candidates(position, images=7, seed=3))[1:] for position in range(20)}
    assert len(orders) > 15


def test_the_policy_is_one_of_two(small_weather: Path) -> None:
    with pytest.raises(ValueError, match=r"on_bad_image must be one of \('error', 'skip'\), got"):
        load_benchmark(small_weather, on_bad_image="ignore")
    assert load_benchmark(small_weather).on_bad_image == "error"


# --- before training --------------------------------------------------------------------


@pytest.fixture
def source(
    benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """What `check_source` says of the benchmark, under a policy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def check(policy: str = "error") -> str:
        chosen = replace(benchmark, on_bad_image=policy)
        register(chosen)
        return check_source(chosen)

    return check


def test_what_would_stop_training_is_found_before(
    benchmark: Benchmark, source: Callable[..., str]
) -> None:
    assert source() == ""
    cut(benchmark, "b", "g")
    Image.new("RGB", (32, 25)).save(image_of(benchmark, "c"))
    found = source()
    assert re.match(r"3 of \d+ images of the source cannot be used, the first: image 'b': ", found)
    assert found.count(str(image_of(benchmark, "b"))) == 1
    assert "on_bad_image=skip trains without such images" in found
    assert source("skip") == ""
    for name in "bg":
        Image.new("RGB", (32, 24)).save(image_of(benchmark, name))
    assert "'c': " in source()
    assert "has 32x25 pixels, but its annotation says 32x24" in source()


def test_an_image_that_lies_or_stands_is_right(
    benchmark: Benchmark, source: Callable[..., str]
) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (24, 32)).save(image_of(benchmark, "a"), exif=turned)
    assert source() == ""


def test_images_are_looked_at_once(
    benchmark: Benchmark, source: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        source()
        source()
    first, again = [m for m in caplog.messages if m.startswith("looked at")]
    count = first.split()[2]
    assert first == f"looked at {count} images, 0 known from before"
    assert again == f"looked at {count} images, {count} known from before"


def test_targets_are_not_looked_at(benchmark: Benchmark, source: Callable[..., str]) -> None:
    shutil.rmtree(benchmark.root / "fog")
    assert source() == ""


# --- annotations ------------------------------------------------------------------------


def test_broken_annotations_of_the_training_split(benchmark: Benchmark) -> None:
    folder = benchmark.root / "clear"
    for name in "bc":
        (folder / "Annotations" / f"{name}.xml").write_text("<annotation>")
    for name in "ef":
        image_of(benchmark, name).unlink()
    with pytest.raises(ValueError, match=r"b\.xml: not a VOC annotation"):
        records(benchmark, "clear", "train")
    lenient = replace(benchmark, on_bad_image="skip")
    assert [one["image_id"] for one in records(lenient, "clear", "train")] == [*"adgh"]


def test_leaving_out_is_logged(benchmark: Benchmark, caplog: pytest.LogCaptureFixture) -> None:
    (benchmark.root / "clear" / "Annotations" / "b.xml").write_text("<annotation>")
    records(replace(benchmark, on_bad_image="skip"), "clear", "train")
    assert "b.xml: not a VOC annotation" in caplog.text


def test_no_annotation_at_all(benchmark: Benchmark) -> None:
    for file in (benchmark.root / "clear" / "Annotations").iterdir():
        file.write_text("<annotation>")
    lenient = replace(benchmark, on_bad_image="skip")
    with pytest.raises(ValueError, match="none of its 8 images can be used"):
        records(lenient, "clear", "train")


def test_broken_annotations_to_be_scored_are_an_error(benchmark: Benchmark) -> None:
    (benchmark.root / "clear" / "Annotations" / "e.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"e\.xml: not a VOC annotation"):
        records(replace(benchmark, on_bad_image="skip"), "clear", "test")


def test_coco_images_without_a_size(benchmark: Benchmark, tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(4)]
    content = {"images": images, "annotations": [], "categories": []}
    write_coco(tmp_path / "clear", "train.json", content)
    (tmp_path / "clear" / "2.jpg").write_bytes(b"")
    for name in (0, 1):
        (tmp_path / "clear" / f"{name}.jpg").unlink()
    source = replace(benchmark.source, splits={"train": "train.json", "test": "train.json"})
    coco = replace(benchmark, format="coco", root=tmp_path, source=source)
    with pytest.raises(ValueError, match=r"2\.jpg: not a readable image"):
        records(coco, "clear", "train")
    lenient = replace(coco, on_bad_image="skip")
    assert [one["image_id"] for one in records(lenient, "clear", "train")] == [3]


# --- testing ----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("policy", ["error", "skip"])
def test_a_bad_test_image_is_always_an_error(
    benchmark: Benchmark, workers: int, policy: str
) -> None:
    cut(benchmark, "d")
    register(replace(benchmark, on_bad_image=policy))
    batches = loader.test_loader(
        dataset_name="small_weather/clear/test", augmentations=[RESIZE], num_workers=workers
    )
    start = f"image 'd': {image_of(benchmark, 'd')}: not a readable image"
    assert complaint(batches).startswith(start)


# --- kinds of images --------------------------------------------------------------------


def turn(benchmark: Benchmark, name: str, stated: tuple[int, int]) -> None:
    """Store 32 x 24 pixels with a white corner that EXIF turns, and an annotation of its size."""
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(image_of(benchmark, name), exif=exif)
    size = f"<size><width>{stated[0]}</width><height>{stated[1]}</height></size>"
    folder = benchmark.root / "clear"
    corner = (1, 1, 8, 8) if stated == (32, 24) else (17, 1, 24, 8)
    write_domain(folder, "test", {})
    write_xml(folder / "Annotations" / f"{name}.xml", [("car", *corner)], size=size)
    for split in ("train", "test"):
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(name)


@pytest.mark.parametrize("stated", [(32, 24), (24, 32)])
def test_boxes_lie_on_what_they_were_drawn_on(
    benchmark: Benchmark, stated: tuple[int, int]
) -> None:
    """Whether the annotation was made on the image as it is stored or as it is shown."""
    turn(benchmark, "a", stated)
    (sample,) = take(benchmark, 1, augmentations=[])
    (box,) = sample["instances"].gt_boxes.tensor.int().tolist()
    assert sample["image"].shape == (3, stated[1], stated[0])
    x0, y0, x1, y1 = box
    inside = sample["image"][:, y0 + 1 : y1 - 1, x0 + 1 : x1 - 1]
    assert inside.numel() > 0
    assert inside.min() > 200
    assert sample["image"].float().mean() < 40

    test = loader.test_loader(
        dataset_name="small_weather/clear/test", augmentations=[], num_workers=0
    )
    ((seen,),) = test
    assert torch.equal(seen["image"], sample["image"])
    assert (seen["width"], seen["height"]) == stated


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_both_loaders_read_every_kind(benchmark: Benchmark, mode: str) -> None:
    grey = np.full((24, 32), 255, np.uint8)
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    image = wide if mode == "I;16" else Image.fromarray(grey).convert("RGB").convert(mode)
    folder = benchmark.root / "clear"
    image_of(benchmark, "a").unlink()
    file = folder / "JPEGImages" / ("a.png" if mode != "CMYK" else "a.jpg")
    image.save(file)
    for split in ("train", "test"):
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("a")
    (sample,) = take(benchmark, 1, augmentations=[])
    test = loader.test_loader(
        dataset_name="small_weather/clear/test", augmentations=[], num_workers=0
    )
    for found in (sample["image"], next(iter(test))[0]["image"]):
        assert (found.shape, found.dtype) == ((3, 24, 32), torch.uint8)
        assert found.min() >= 254


def test_the_mapper_is_detectron2s_own(benchmark: Benchmark) -> None:
    """What Detectron2's mapper gives for a plain image, with the same random numbers."""
    augmentations = [
        T.ResizeScale(min_scale=0.5, max_scale=2.0, target_height=64, target_width=64),
        T.RandomCrop(crop_type="absolute", crop_size=(32, 32)),
        T.RandomFlip(),
    ]
    folder = benchmark.root / "clear"
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    Image.fromarray(noise).save(image_of(benchmark, "a"))
    hard = "<object><name>car</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin>"
    hard += "<xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    write_xml(folder / "Annotations" / "a.xml", [BOX, hard, ("person", 1, 1, 3, 3)], size=SIZE)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a")
    (record,) = records(benchmark, "clear", "train")
    theirs = DatasetMapper(True, augmentations=augmentations, image_format="RGB")
    ours = TrainMapper(augmentations)
    counts = set()
    for number in range(20):
        with random_numbers(number):
            wanted = theirs(record)
        with random_numbers(number):
            found = ours(record)
        assert found.keys() == wanted.keys()
        apart = (found["image"].int() - wanted["image"].int()).abs()
        assert apart.max() <= 2  # PyTorch resizes, not Pillow
        assert (apart > 0).float().mean() < 0.1
        boxes = [one["instances"].gt_boxes.tensor for one in (found, wanted)]
        assert torch.equal(*boxes)
        assert torch.equal(*(one["instances"].gt_classes for one in (found, wanted)))
        counts.add(len(boxes[0]))
    assert counts >= {1, 2}  # the difficult one is left out, and crops cut off the small one
    assert len(record["annotations"]) == 3  # not changed
