from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sora_det.data.benchmark import Benchmark, Domain, check_below

SOURCE = Domain("clear", ("clear",), {"train": "train", "test": "test"})
FOG = Domain("fog", ("fog",), {"test": "train"})
BENCHMARK = Benchmark(
    name="weather",
    root=Path("data"),
    format="voc",
    classes=("car", "person"),
    class_map={"rider": "person"},
    source=SOURCE,
    targets=(FOG,),
)


def test_names_and_counts() -> None:
    assert BENCHMARK.num_classes == 2
    assert [domain.name for domain in BENCHMARK.domains] == ["clear", "fog"]
    assert BENCHMARK.dataset_name("clear", "train") == "weather/clear/train"
    assert BENCHMARK.category_ids == {"car": 0, "person": 1, "rider": 1}


def test_val_is_the_test_split_unless_given() -> None:
    assert SOURCE.roles == ("train", "val", "test")
    assert SOURCE.part("val") == "test"
    own = Domain("clear", ("clear",), {"train": "train", "val": "val", "test": "test"})
    assert own.part("val") == "val"


def test_targets_are_only_tested() -> None:
    assert FOG.roles == ("test",)
    with pytest.raises(ValueError, match=r"'fog' has the roles \('test',\), got 'val'"):
        BENCHMARK.dataset_name("fog", "val")


def test_unknown_domain_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"\['clear', 'fog'\], got 'rain'"):
        BENCHMARK.domain("rain")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "a benchmark's name must consist of"),
        ({"name": ""}, "a benchmark's name must consist of"),
        ({"format": "yolo"}, "format must be one of"),
        ({"classes": ()}, "at least one class"),
        ({"classes": ("car", "car", "person")}, r"classes must differ .* \['car'\]"),
        ({"classes": ("car", " person")}, "start or end with a space"),
        ({"class_map": {"rider": "cyclist"}}, "leads to 'cyclist'"),
        ({"class_map": {"car": "person"}}, "'car', itself a class"),
        ({"targets": ()}, "at least one domain"),
        ({"targets": (FOG, FOG)}, r"domains must differ .* \['fog'\]"),
        ({"targets": (SOURCE,)}, "only ever evaluated"),
        ({"source": FOG}, "needs the splits 'train' and 'test'"),
    ],
)
def test_a_benchmark_checks_itself(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BENCHMARK, **change)


@pytest.mark.parametrize("path", ["/etc", "..", "a/../../b", "a\\..\\b", "C:\\a", "", " ", "a\0b"])
def test_paths_stay_below_their_folder(path: str) -> None:
    with pytest.raises(ValueError, match="relative and free of"):
        check_below(path, "here")


@pytest.mark.parametrize("path", ["a", "a/b.txt", "./a", "a..b", "städte/å", "."])
def test_ordinary_paths_pass(path: str) -> None:
    check_below(path, "here")


def test_a_domain_knows_its_roles() -> None:
    with pytest.raises(ValueError, match=r"must be among .*, got \['trian'\]"):
        Domain("clear", ("clear",), {"trian": "train"})
