"""The toy benchmark: the same files every time, honest boxes, and weathers that act as they say."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest

from sora_det.data.load import load_benchmark
from sora_det.data.register import records
from sora_det.data.toy import (
    CLASSES,
    FOLDERS,
    WEATHERS,
    Scene,
    draw_scene,
    image_count,
    render,
    toy_image,
    write_toy,
)

SETTINGS = {"seed": 3, "train": 21, "test": 3, "size": 96}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "toy_weather"
    file = write_toy(folder, **SETTINGS, workers=1)
    assert file == folder / "toy_weather.yaml"
    return folder


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(np.random.default_rng([9, index])) for index in range(30)]


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_files_do_not_depend_on_the_number_of_processes(root: Path, tmp_path: Path) -> None:
    drawn: list[int] = []
    write_toy(tmp_path / "again", **SETTINGS, workers=2, progress=drawn.append)
    assert sum(drawn) == image_count(train=21, test=3) == 36
    assert contents(tmp_path / "again") == contents(root)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]  # nothing temporary stays


def test_another_seed_gives_other_pictures() -> None:
    one, _ = toy_image("daytime-clear", "train", 0, seed=0, size=96)
    two, _ = toy_image("daytime-clear", "train", 0, seed=1, size=96)
    same, _ = toy_image("daytime-clear", "train", 0, seed=0, size=96)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, two)


def test_weathers_splits_and_indices_share_no_scene() -> None:
    keys = [(w, s, i) for w in WEATHERS for s in ("train", "test", "pretrain") for i in range(2)]
    depths = {toy_image(w, s, i, size=64)[1].depth.tobytes() for w, s, i in keys}
    assert len(depths) == len(keys)


def test_layout_is_that_of_diverse_weather(root: Path) -> None:
    assert sorted(path.name for path in root.iterdir()) == sorted(
        [*FOLDERS.values(), "manifest.json", "toy_weather.yaml"]
    )
    for folder in FOLDERS.values():
        base = root / folder / "VOC2007"
        splits = {"train": 21, "test": 3} if folder == "daytime_clear" else {"train": 3}
        lists = {file.stem: file.read_text().split() for file in base.glob("ImageSets/Main/*.txt")}
        assert {name: len(stems) for name, stems in lists.items()} == splits
        stems = sorted(stem for names in lists.values() for stem in names)
        assert sorted(file.stem for file in base.glob("JPEGImages/*.jpg")) == stems
        assert sorted(file.stem for file in base.glob("Annotations/*.xml")) == stems


def test_annotations_are_valid_voc(root: Path) -> None:
    for file in root.rglob("*.xml"):
        tree = ElementTree.parse(file).getroot()
        image = cv2.imread(str(file.parents[1] / "JPEGImages" / f"{file.stem}.jpg"))
        assert image.shape == (96, 96, 3)
        assert tree.findtext("filename") == f"{file.stem}.jpg"
        assert [tree.findtext(f"size/{key}") for key in ("width", "height")] == ["96", "96"]
        for thing in tree.iter("object"):
            assert thing.findtext("name") in CLASSES
            x0, y0, x1, y1 = (
                int(thing.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax")
            )
            assert 1 <= x0 < x1 <= 96
            assert 1 <= y0 < y1 <= 96


def test_benchmark_file_reads_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    benchmark = load_benchmark(root / "toy_weather.yaml")
    assert benchmark.name == "toy_weather"
    assert benchmark.classes == CLASSES
    assert benchmark.source.name == "daytime-clear"
    assert [target.name for target in benchmark.targets] == list(FOLDERS)[1:]
    assert len(records(benchmark, "daytime-clear", "train")) == 21
    found = records(benchmark, "Night-Sunny", "test")
    assert len(found) == 3
    _, scene = toy_image("Night-Sunny", "test", 0, seed=3, size=96)
    boxes = [annotation["bbox"] for annotation in found[0]["annotations"]]
    np.testing.assert_array_equal(boxes, [thing.box for thing in scene.things])


def test_same_settings_return_at_once(root: Path) -> None:
    drawn: list[int] = []
    before = (root / "manifest.json").stat().st_mtime_ns
    assert write_toy(root, **SETTINGS, progress=drawn.append) == root / "toy_weather.yaml"
    assert drawn == []
    assert (root / "manifest.json").stat().st_mtime_ns == before


def test_other_settings_are_an_error(root: Path) -> None:
    with pytest.raises(ValueError, match=r"other settings \(seed 3 instead of 4\)"):
        write_toy(root, **SETTINGS | {"seed": 4})


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds no toy benchmark"):
        write_toy(tmp_path, **SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_failed_run_leaves_nothing(tmp_path: Path) -> None:
    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_toy(tmp_path / "new", train=1, test=1, size=64, workers=1, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": 0}, "train=0"),
        ({"test": 0}, "test=0"),
        ({"size": 32}, "size=32"),
        ({"seed": -1}, "seed=-1"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_numbers_out_of_range(tmp_path: Path, settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_toy(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ValueError, match=r"one of daytime-clear, .*got 'snow'"):
        toy_image("snow", "train", 0)
    with pytest.raises(ValueError, match="split must be one of train, test, pretrain"):
        toy_image("daytime-clear", "val", 0)
    with pytest.raises(ValueError, match="weather must be one of"):
        render(draw_scene(np.random.default_rng(0), size=64), "snow", np.random.default_rng(0))


def test_manifest_states_the_settings(root: Path) -> None:
    found = json.loads((root / "manifest.json").read_text())
    assert found.pop("version") >= 1
    assert found == SETTINGS


def test_every_class_is_present_and_cars_and_persons_lead(scenes: list[Scene]) -> None:
    labels = [thing.label for scene in scenes for thing in scene.things]
    counts = {name: labels.count(name) for name in CLASSES}
    assert min(counts.values()) >= 4
    assert {"car", "person"} == set(sorted(counts, key=lambda name: -counts[name])[:2])
    assert 3 <= np.mean([len(scene.things) for scene in scenes]) <= 9


def test_boxes_lie_inside_and_fit_what_is_seen(scenes: list[Scene]) -> None:
    fitted = 0
    for scene in scenes:
        for thing in scene.things:
            x0, y0, x1, y1 = thing.box
            assert 0 <= x0 < x1 <= 256
            assert 0 <= y0 < y1 <= 256
            assert 0.3 <= thing.visible <= 1
            rows, columns = np.nonzero(scene.instances == thing.owner)
            seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert min(seen[0] - x0, seen[1] - y0, x1 - seen[2], y1 - seen[3]) >= 0
            if thing.visible == 1:
                np.testing.assert_allclose(seen, thing.box, atol=1)
                fitted += 1
    assert fitted > 30


def test_far_things_are_small_and_depth_is_that_of_the_thing(scenes: list[Scene]) -> None:
    for scene in scenes:
        for thing in scene.things:
            depth = scene.depth[scene.instances == thing.owner]
            np.testing.assert_allclose(depth, thing.depth, rtol=1e-5)
        assert scene.depth.min() > 0
        assert np.isinf(scene.depth[0]).any() or scene.instances[0].all()
    persons = [t for s in scenes for t in s.things if t.label == "person" and t.box[3] < 256]
    heights = [t.box[3] - t.box[1] for t in persons]
    assert np.corrcoef(heights, [1 / t.depth for t in persons])[0, 1] > 0.9


def test_light_does_not_change_the_layout() -> None:
    sunny = draw_scene(np.random.default_rng(5), size=96, sunny=True)
    dull = draw_scene(np.random.default_rng(5), size=96, sunny=False)
    assert sunny.things == dull.things
    assert np.array_equal(sunny.instances, dull.instances)
    assert not np.array_equal(sunny.image, dull.image)


def _rendered(scenes: list[Scene], weather: str) -> np.ndarray:
    """Return (image, row, column) grey values, 0..255."""
    images = [render(s, weather, np.random.default_rng(i)) for i, s in enumerate(scenes)]
    assert all(image.dtype == np.uint8 and image.shape == (256, 256, 3) for image in images)
    return np.stack([image.mean(axis=2) for image in images])


def test_brightness_falls_from_day_to_dusk_to_night(scenes: list[Scene]) -> None:
    few = scenes[:8]
    grey = {weather: _rendered(few, weather) for weather in WEATHERS}
    names = ("daytime-foggy", "daytime-clear", "dusk-rainy", "Night-Sunny", "night-rainy")
    means = [grey[name].mean() for name in names]
    assert means == sorted(means, reverse=True)
    sky = np.stack([np.isinf(scene.depth) for scene in few])
    for name in ("Night-Sunny", "night-rainy"):
        assert grey[name][sky].mean() < 0.4 * grey["daytime-clear"][sky].mean()


def test_fog_takes_contrast_with_distance(scenes: list[Scene]) -> None:
    def edges(weather: str, low: float, high: float) -> float:
        """Mean step between horizontal neighbours of the same thing or wall, low..high metres."""
        steps = []
        for image, scene in zip(_rendered(few, weather), few, strict=True):
            smooth = cv2.GaussianBlur(image, (0, 0), 1.5)  # without the sensor's noise
            band = (scene.depth > low) & (scene.depth < high) & (scene.instances > 0)
            steps.append(np.abs(np.diff(smooth, axis=1))[band[:, 1:]].mean())
        return float(np.mean(steps))

    few = scenes[:8]
    kept = [
        edges("daytime-foggy", low, low + 15) / edges("daytime-clear", low, low + 15)
        for low in (5, 20, 35, 50)
    ]
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] < 0.65 * kept[0]


def test_windows_and_lamps_shine_by_night_alone(scenes: list[Scene]) -> None:
    few = scenes[:8]
    lamps = np.zeros((len(few), 256, 256), dtype=bool)
    for index, scene in enumerate(few):
        for light in (light for light in scene.lights if light.kind in ("head", "tail")):
            u, v = np.floor(light.outline.mean(axis=0)).astype(int)
            if 0 <= u < 256 and 0 <= v < 256 and scene.instances[v, u] == light.owner:
                lamps[index, v, u] = True
    assert lamps.sum() > 10
    gain = {w: _rendered(few, w)[lamps].mean() / _rendered(few, w).mean() for w in WEATHERS}
    assert gain["Night-Sunny"] > 1.5 * gain["daytime-clear"]
    assert gain["night-rainy"] > 1.5 * gain["daytime-clear"]
