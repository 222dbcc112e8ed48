from pathlib import Path

import pytest

from sora_det.data import class_count, load_benchmark

CONFIGS = Path(__file__).parents[3] / "configs" / "benchmarks"

GOOD = """
name: weather
root: weather
format: voc
classes: [no, 2020, car]
source: {name: clear, folder: clear, train: train.txt, test: test}
targets:
  - {name: fog, folder: [Fog, fog], test: train}
"""


@pytest.fixture(autouse=True)
def _no_datasets_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)


def write(folder: Path, text: str) -> Path:
    file = folder / "weather.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_becomes_a_value(tmp_path: Path) -> None:
    benchmark = load_benchmark(write(tmp_path, GOOD))
    assert benchmark.classes == ("no", "2020", "car")  # text, whatever YAML makes of it
    assert class_count(benchmark) == 3
    assert benchmark.root == tmp_path / "weather"
    assert benchmark.source.splits == {"train": "train", "test": "test"}
    assert benchmark.targets[0].folders == ("Fog", "fog")
    assert load_benchmark(str(tmp_path / "weather.yaml")) == benchmark


def test_root_argument_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sets" / "weather").mkdir(parents=True)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "sets"))
    file = write(tmp_path, GOOD)
    assert load_benchmark(file).root == tmp_path / "sets" / "weather"
    assert load_benchmark(file, root="/else/where").root == Path("/else/where")
    absolute = write(tmp_path, GOOD.replace("root: weather", "root: /data/weather"))
    assert load_benchmark(absolute).root == Path("/data/weather")


def test_datasets_folder_counts_only_where_it_has_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "sets"))
    assert load_benchmark(write(tmp_path, GOOD)).root == tmp_path / "weather"


@pytest.mark.parametrize("root", [".", "./weather", "../weather"])
def test_a_root_with_a_dot_lies_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    (tmp_path / "sets" / "weather").mkdir(parents=True)
    (tmp_path / "weather").mkdir()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "sets"))
    file = write(tmp_path, GOOD.replace("root: weather", f"root: {root}"))
    assert load_benchmark(file).root == tmp_path / root


def test_root_may_come_from_the_argument_alone(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD.replace("root: weather\n", ""))
    assert load_benchmark(file, root="data").root == Path("data")
    with pytest.raises(ValueError, match="there is no root: name one in the file"):
        load_benchmark(file)


def test_class_map_goes_from_names_to_classes(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD + "class_map: {car: [van, taxi]}\n")
    assert load_benchmark(file).class_map == {"van": "car", "taxi": "car"}


def test_coco_splits_are_a_file_and_a_folder(tmp_path: Path) -> None:
    split = "{annotations: a.json, images: pictures}"
    text = GOOD.replace("voc", "coco").replace("train.txt", split)
    text = text.replace("test: test", f"test: {split}").replace(
        "test: train", "test: {annotations: b.json}"
    )
    benchmark = load_benchmark(write(tmp_path, text))
    assert benchmark.source.splits == {"train": "a.json", "test": "a.json"}
    assert benchmark.source.images == {"train": "pictures", "test": "pictures"}
    assert benchmark.targets[0].images == {"test": "."}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format: voc", "format: yolo", "format must be one of .*'yolo'"),
        ("format: voc\n", "", r"missing \['format'\]"),
        ("format: voc", "format: voc\nclases: [a]", r"unknown \[\"'clases'\"\]"),
        ("format: voc", "format: voc\nformat: coco", "may appear once, got format"),
        ("[no, 2020, car]", "[car, car]", "classes must differ"),
        ("[no, 2020, car]", "car", "classes must be a list, got 'car'"),
        ("[no, 2020, car]", "[car, [van]]", "classes must be a text"),
        ("[no, 2020, car]", "", "classes must be a list, got nothing"),
        ("[Fog, fog]", "../fog", "free of '..', got '../fog'"),
        ("[Fog, fog]", "[]", "needs a folder"),
        ("name: fog", "name: clear", "domains must differ"),
        ("test: train}", "test: train, train: train}", r"targets\[0\] must hold"),
        ("train: train.txt, ", "", r"source must hold .*missing \['train'\]"),
        ("train: train.txt", "train: {annotations: a.json}", "source.train must be a text"),
        ("format: voc", "format: coco", "source.train must hold the entries"),
        ("format: voc", "format: voc\nclass_map: {car: van}", "class_map.car must be a list"),
        ("format: voc", "format: voc\nclass_map: [van]", "class_map must list names by class"),
        ("format: voc", "format: voc\nclass_map: {bus: [van]}", "leads to 'bus'"),
        ("format: voc", "format: voc\nclass_map: {car: [v], no: [v]}", "'v' to 'car' and to 'no'"),
        ("format: voc", "format: [", "not a readable YAML file"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ValueError, match=message) as error:
        load_benchmark(write(tmp_path, GOOD.replace(old, new, 1)))
    assert "weather.yaml" in str(error.value)


def test_files_that_are_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no benchmark file"):
        load_benchmark(tmp_path / "none.yaml")
    (tmp_path / "image.yaml").write_bytes(bytes(range(128, 256)))
    with pytest.raises(ValueError, match=r"image\.yaml: not a readable YAML file"):
        load_benchmark(tmp_path / "image.yaml")
    with pytest.raises(ValueError, match="not a readable YAML file"):
        load_benchmark(write(tmp_path, "[" * 5000))
    with pytest.raises(ValueError, match="the file must hold the entries"):
        load_benchmark(write(tmp_path, ""))


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_files_load(file: Path) -> None:
    benchmark = load_benchmark(file)
    assert benchmark.name in (file.stem, "my_weather")
    assert all("test" in domain.roles for domain in benchmark.domains)


def test_class_counts_of_shipped_files() -> None:
    counts = {
        "diverse_weather": 7,
        "cityscapes_foggy": 8,
        "bdd100k_night": 10,
        "carla_weather": 5,
    }
    for name, count in counts.items():
        assert class_count(load_benchmark(CONFIGS / f"{name}.yaml")) == count
