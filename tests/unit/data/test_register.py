from dataclasses import replace
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from sora_det.data import load_benchmark, records, register
from tests.unit.data.annotation_trees import write_domain

CONFIGS = Path(__file__).parents[3] / "configs" / "benchmarks"


def test_registering_fills_both_catalogues(small_weather: Path) -> None:
    before = set(DatasetCatalog.list())
    benchmark = load_benchmark(small_weather)
    assert set(DatasetCatalog.list()) == before  # loading is not registering
    register(benchmark)
    names = {"clear/train", "clear/val", "clear/test", "fog/test"}
    assert set(DatasetCatalog.list()) - before == {f"small_weather/{name}" for name in names}
    metadata = MetadataCatalog.get("small_weather/fog/test")
    assert metadata.thing_classes == ["car", "person"]
    assert (metadata.benchmark, metadata.domain, metadata.role) == ("small_weather", "fog", "test")
    assert DatasetCatalog.get("small_weather/fog/test") == records(benchmark, "fog", "test")
    assert DatasetCatalog.get("small_weather/clear/val") == records(benchmark, "clear", "test")


def test_registering_reads_nothing(small_weather: Path) -> None:
    benchmark = replace(load_benchmark(small_weather), root=Path("no/such/folder"))
    register(benchmark)
    with pytest.raises(FileNotFoundError, match=r"'fog'.* no folder Fog or fog below no/such"):
        DatasetCatalog.get("small_weather/fog/test")


def test_registering_again_replaces(small_weather: Path) -> None:
    benchmark = load_benchmark(small_weather)
    register(benchmark)
    register(benchmark)
    fewer = replace(
        benchmark, classes=("person",), targets=(replace(benchmark.targets[0], name="mist"),)
    )
    register(fewer)
    assert MetadataCatalog.get("small_weather/clear/train").thing_classes == ["person"]
    assert "small_weather/fog/test" not in DatasetCatalog.list()
    assert len(DatasetCatalog.get("small_weather/mist/test")) == 2
    first, *_ = DatasetCatalog.get("small_weather/clear/train")
    assert [box["category_id"] for box in first["annotations"]] == [0]  # the rider alone


def test_other_benchmarks_stay(small_weather: Path) -> None:
    benchmark = load_benchmark(small_weather)
    register(benchmark)
    register(replace(benchmark, name="small"))
    assert "small_weather/fog/test" in DatasetCatalog.list()


def test_callers_may_change_what_they_get(small_weather: Path) -> None:
    register(load_benchmark(small_weather))
    name = "small_weather/clear/train"
    DatasetCatalog.get(name)[0]["annotations"].clear()
    assert len(DatasetCatalog.get(name)[0]["annotations"]) == 2


def test_first_existing_folder_is_used(small_weather: Path) -> None:
    benchmark = load_benchmark(small_weather)
    write_domain(benchmark.root / "Fog", "train", {"other": []})
    assert [record["image_id"] for record in records(benchmark, "fog", "test")] == ["other"]


def test_unknown_role(small_weather: Path) -> None:
    with pytest.raises(ValueError, match="has the roles"):
        records(load_benchmark(small_weather), "fog", "train")


def test_diverse_weather_in_miniature(tmp_path: Path) -> None:
    """The released layout with all that its files are known to do."""
    root = tmp_path / "diverseWeather"
    plain = {"a": [("bus", 1, 1, 9.5, 9), ("traffic light", 1, 1, 2, 2)], "b": []}
    for folder in ("daytime_clear", "night_sunny", "dusk_rainy", "night_rainy", "daytime_foggy"):
        write_domain(root / folder / "VOC2007", "train", plain)
    write_domain(root / "daytime_clear/VOC2007", "test", {"c": [("truck", 3, 3, 20, 20)]})
    (root / "dusk_rainy/VOC2007/JPEGImages/b.jpg").unlink()
    benchmark = load_benchmark(CONFIGS / "diverse_weather.yaml", root=str(root))
    found = {
        domain.name: [record["image_id"] for record in records(benchmark, domain.name, "test")]
        for domain in benchmark.domains
    }
    assert found == {
        "daytime-clear": ["c"],
        "Night-Sunny": ["a", "b"],
        "dusk-rainy": ["a"],
        "night-rainy": ["a", "b"],
        "daytime-foggy": ["a", "b"],
    }
    night, *_ = records(benchmark, "Night-Sunny", "test")
    assert [box["bbox"] for box in night["annotations"]] == [[0.0, 0.0, 9.0, 9.0]]
    assert night["domain"] == "Night-Sunny"


def test_carla_weather(shared: Path) -> None:
    benchmark = load_benchmark(
        CONFIGS / "carla_weather.yaml", root=str(shared / "data" / "carla_weather")
    )
    counts = {}
    for domain in benchmark.domains:
        for role in set(domain.roles) - {"val"}:
            found = records(benchmark, domain.name, role)
            boxes = [box for record in found for box in record["annotations"]]
            assert {box["category_id"] for box in boxes} <= set(range(5))
            counts[domain.name, role] = (len(found), len(boxes))
    assert counts == {
        ("clear_day", "train"): (493, 845),
        ("clear_day", "test"): (188, 378),  # 845 + 378 = 1223
        ("overcast_wet", "test"): (355, 545),
        ("low_sun_glare", "test"): (138, 265),
        ("sunset_haze_wet", "test"): (94, 138),
    }


def test_held_out_images_are_not_trained_on(small_weather: Path) -> None:
    whole = load_benchmark(small_weather)
    benchmark = load_benchmark(small_weather, held_out=0.1)
    train, val = ([r["image_id"] for r in records(benchmark, "clear", r)] for r in ("train", "val"))
    assert (train, val) == (["a", "b"], ["c"])
    # The test images and the targets stay whole, and the same images are held out again.
    for domain in ("clear", "fog"):
        assert records(benchmark, domain, "test") == records(whole, domain, "test")
    assert [r["image_id"] for r in records(benchmark, "clear", "val")] == val


def test_a_share_that_holds_out_nothing(small_weather: Path) -> None:
    benchmark = load_benchmark(small_weather, held_out=1e-9)
    with pytest.raises(ValueError, match=r"held_out=1e-09 takes none of the 3 training images"):
        records(benchmark, "clear", "train")
    with pytest.raises(ValueError, match=r"held_out=1e-09 takes none of the 3 training images"):
        records(benchmark, "clear", "val")
    with pytest.raises(ValueError, match="takes all of the 3 training images"):
        records(load_benchmark(small_weather, held_out=0.999999), "clear", "train")
    with pytest.raises(ValueError, match="held_out must be a share from 0 to below 1, got 1"):
        load_benchmark(small_weather, held_out=1.0)
