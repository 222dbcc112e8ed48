"""Files of detections are read as they are meant, or refused with a reason."""

import json
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_det.evaluation import json_text
from sora_det.evaluation.ap import Detections
from sora_det.evaluation.prediction_files import BATCH, read_entries
from sora_det.evaluation.prediction_images import Finder, Images
from sora_det.evaluation.predictions import (
    Classes,
    Predicted,
    Source,
    parse_sources,
    read_predictions,
    repeated,
)

SIZE = (200.0, 100.0)
CLASSES = Classes(("bus", "car"), {"bus": 0, "car": 1, "van": 1})
NUMBERED = Classes(CLASSES.classes, CLASSES.aliases, first=1)
KNOWN = {
    domain: Images(
        ids=[f"{domain}_{i}" for i in range(count)],
        files=[f"{domain}/JPEGImages/{i}.jpg" for i in range(count)],
        size=np.tile(SIZE, (count, 1)),
    )
    for domain, count in (("clear", 3), ("fog", 2))
}


def entry(image: Any = "clear_0", **changes: Any) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": 1,
        "bbox": [10, 20, 30, 40.5],
        "score": 0.5,
    } | changes


def write(folder: Path, content: Any, name: str = "found.json") -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def read(
    folder: Path,
    content: Any,
    classes: Classes = NUMBERED,
    known: Mapping[str, Images] = KNOWN,
    domain: str = "",
    **options: Any,
) -> dict[str, Predicted]:
    known = {domain: known[domain]} if domain else known
    return read_predictions([Source(write(folder, content), domain)], known, classes, **options)


def remarks(predicted: Mapping[str, Predicted]) -> list[tuple[str, int, str]]:
    return [(d, remark.count, remark.what) for d, p in predicted.items() for remark in p.remarks]


ALL = [entry(name) for images in KNOWN.values() for name in images.ids]


# --- what is read ---------------------------------------------------------------------------------


def test_a_bare_list(tmp_path: Path) -> None:
    rows = [entry("fog_1", category_id=2, score=1), *ALL]
    found = read(tmp_path, rows)
    assert not remarks(found)
    fog = found["fog"].detections
    assert fog.image.tolist() == [1, 0, 1]
    assert fog.label.tolist() == [1, 0, 0]
    assert fog.score.tolist() == [1.0, 0.5, 0.5]
    assert fog.box.tolist() == [[10, 20, 40, 60.5]] * 3
    assert len(found["clear"].detections) == 3


def test_an_object_is_read_by_names(tmp_path: Path) -> None:
    content = {
        "info": {"year": 2026, "tags": [1.5, None]},
        "annotations": [entry(7, category_id=30), entry("x", category_id=31)],
        "images": [
            {"id": 7, "file_name": "somewhere/else/fog/JPEGImages/1.jpg"},
            {"id": "x", "file_name": "fog\\JPEGImages\\0.jpg"},
            {"id": 2, "file_name": "not/ours.jpg"},
        ],
        "categories": [{"id": 30, "name": "van"}, {"id": 31, "name": "bus"}],
    }
    found = read(tmp_path, content, CLASSES)
    assert found["fog"].detections.image.tolist() == [1, 0]
    assert found["fog"].detections.label.tolist() == [1, 0]
    assert remarks(found) == [
        ("clear", 3, "images are not in the files' lists of images"),
        ("clear", 3, "images have no detection"),
    ]


def test_numbers_of_a_coco_benchmark(tmp_path: Path) -> None:
    known = {"day": Images(["5", "9"], ["a.png", "b.png"], np.full((2, 2), 100.0))}
    classes = Classes(
        CLASSES.classes, CLASSES.aliases, numbers=lambda _: {3: "van", 8: "bus", 4: "dog"}
    )
    rows = [entry(5, category_id=3), entry("9", category_id=8), entry(9, category_id=4)]
    found = read(tmp_path, rows, classes, known)
    assert found["day"].detections.label.tolist() == [1, 0]
    assert found["day"].detections.image.tolist() == [0, 1]
    what = "detections are of classes that the benchmark lacks and are left out: dog 1"
    assert remarks(found) == [("day", 1, what)]


def test_entries_may_name_their_domain(tmp_path: Path) -> None:
    known = {domain: Images(["0"], [f"{domain}/0.jpg"], np.array([SIZE])) for domain in "ab"}
    rows = [entry("0", domain="b", score=0.25), entry("0", domain="a")]
    found = read(tmp_path, rows, known=known)
    assert found["b"].detections.score.tolist() == [0.25]
    assert found["a"].detections.score.tolist() == [0.5]
    listed = {"images": [{"id": 1, "file_name": "0.jpg", "domain": "b"}], "annotations": [entry(1)]}
    assert len(read(tmp_path, listed, known=known)["b"].detections) == 1
    with pytest.raises(ValueError, match="1 images could be several of the benchmark's: '0'"):
        read(tmp_path, [entry("0")], known=known)
    with pytest.raises(ValueError, match="the domain must be a, b or left out, got c"):
        read(tmp_path, [entry("0", domain="c")], known=known)
    with pytest.raises(ValueError, match="the domain must be a or left out, got b"):
        read(tmp_path, rows, known=known, domain="a")
    assert len(read(tmp_path, [entry("0")], known=known, domain="b")["b"].detections) == 1


def test_the_longest_agreement_of_names_wins() -> None:
    finder = Finder({"a": Images(["1", "2"], ["x/1.jpg", "1.jpg"], np.ones((2, 2)))})
    assert finder.find("?", "y/x/1.jpg") == [(0, 0)]
    assert finder.find("?", "z/1.jpg") == [(0, 1)]
    assert finder.find("?", "1.jpg") == [(0, 0), (0, 1)]
    assert finder.find("1", "2.jpg") == []
    assert finder.find(1) == [(0, 0)]


def test_several_files(tmp_path: Path) -> None:
    one, two = write(tmp_path, ALL[:2], "1.json"), write(tmp_path, ALL[2:], "2.json")
    found = read_predictions([Source(one), Source(two)], KNOWN, NUMBERED)
    assert not remarks(found)
    assert [len(p.detections) for p in found.values()] == [3, 2]
    message = r"1\.json, 1\.json: 2 images of clear have detections in several .*: clear_0, clear_1"
    with pytest.raises(ValueError, match=message):
        read_predictions([Source(one), Source(one)], KNOWN, NUMBERED)
    with pytest.raises(ValueError, match="the domains clear, fog need a file each"):
        read_predictions([Source(one, "clear")], KNOWN, NUMBERED)


def test_arguments(tmp_path: Path) -> None:
    odd = write(tmp_path, [], "a=b.json")
    assert parse_sources(["clear=x.json", "fog=y=z"], ["clear", "fog"]) == [
        Source(Path("x.json"), "clear"),
        Source(Path("y=z"), "fog"),
    ]
    assert parse_sources([str(odd), "x.json"], ["clear"]) == [Source(odd), Source(Path("x.json"))]
    with pytest.raises(ValueError, match="the domains are clear, fog, got 'night'"):
        parse_sources(["night=x.json"], ["clear", "fog"])
    with pytest.raises(ValueError, match="not both"):
        parse_sources(["fog=x.json", "y.json"], ["clear", "fog"])
    with pytest.raises(ValueError, match="at least one file"):
        parse_sources([], ["clear"])


# --- what is counted ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "box", "count", "what"),
    [
        ({"bbox": [-5, 90, 30, 20]}, [0, 90, 25, 100], 1, "boxes reached beyond their image"),
        ({"bbox": [250, 10, 20, 20]}, [200, 10, 200, 30], 1, "boxes lay outside their image"),
        ({"bbox": [50, 10, 0, 20]}, [50, 10, 50, 30], 1, "boxes have no area"),
        ({"bbox": [199.5, 10, 0.55, 20]}, [199.5, 10, 200, 30], 0, ""),  # a rounded number
        ({}, [10, 20, 40, 60.5], 1, "detections repeat another one exactly"),
    ],
)
def test_odd_boxes(
    tmp_path: Path, changes: dict[str, Any], box: list[float], count: int, what: str
) -> None:
    found = read(tmp_path, [*ALL, entry(**changes)])
    assert found["clear"].detections.box[-1].tolist() == box
    assert [(n, text.startswith(what)) for _, n, text in remarks(found)] == [(count, True)] * count


def test_corners_are_suspected(tmp_path: Path) -> None:
    found = read(tmp_path, [entry(f"clear_{i}", bbox=[100, 50, 160, 90]) for i in range(3)])
    assert "are they corners? A bbox is [x, y, width, height]" in remarks(found)[0][2]


def test_crowded_images(tmp_path: Path) -> None:
    rows = [entry("fog_0", score=i / 200) for i in range(101)]
    rows += [entry("fog_1", score=i / 200, category_id=1 + i // 100) for i in range(150)]
    found = read(tmp_path, [*rows, *ALL[:3]])
    assert [(d, n, what[:5]) for d, n, what in remarks(found)] == [("fog", 1, "times")]
    assert len(found["fog"].detections) == 251


def test_no_detection_at_all(tmp_path: Path) -> None:
    found = read(tmp_path, [])
    assert remarks(found) == [
        ("clear", 1, "file holds no detection: found.json"),
        ("clear", 3, "images have no detection"),
        ("fog", 2, "images have no detection"),
    ]
    assert found["fog"].detections.box.shape == (0, 4)
    # Nor does it take names of classes to say that there is nothing.
    assert read(tmp_path, [], CLASSES)["fog"].detections.label.dtype.kind == "i"
    assert not len(read(tmp_path, {"annotations": []}, CLASSES)["fog"].detections)


def test_unknown_images(tmp_path: Path) -> None:
    rows = [*ALL, entry("a"), entry("a"), entry(5)]
    message = (
        r"found\.json: 3 of 8 entries are of 2 images that the domains clear, fog do not have: "
        r"'a', 5\. Known ones are called as 'clear_0' is; --ignore"
    )
    with pytest.raises(ValueError, match=message):
        read(tmp_path, rows)
    found = read(tmp_path, rows, ignore_unknown_images=True)
    what = "detections in found.json are of unknown images: left out"
    assert remarks(found) == [("clear", 3, what)]
    assert sum(len(p.detections) for p in found.values()) == 5
    with pytest.raises(ValueError, match="2 of 2 entries are of 1 images that fog do not have"):
        read(tmp_path, [entry("a")] * 2, domain="fog", ignore_unknown_images=True)
    listed = {"images": [{"id": 1, "file_name": "b.png"}], "annotations": [entry(1)]}
    with pytest.raises(ValueError, match=r"'b\.png'\. .* as 'clear/JPEGImages/0\.jpg' is"):
        read(tmp_path, listed)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from([0.0, 0.5, 1e-300]))
    )
)
def test_repeated_rows_are_counted_exactly(rows: list[tuple[int, int, float]]) -> None:
    columns = np.array(rows, dtype=float).reshape(-1, 3)
    boxes = np.tile([1.0, 2.0, 3.0, 4.0], (len(rows), 1))
    image, label = columns[:, 0].astype(int), columns[:, 1].astype(int)
    found = Detections(image, label, columns[:, 2], boxes)
    assert repeated(found) == len(rows) - len(set(rows))


# --- what is refused ------------------------------------------------------------------------------

NAMED = {"categories": [{"id": 1, "name": "car"}]}
IMAGE = {"id": "clear_0", "file_name": "clear/JPEGImages/0.jpg"}
REFUSED: dict[str, tuple[Any, str]] = {
    "empty file": ("", "the file is empty: a run without detections is written as"),
    "only spaces": (" \n", "the file is empty"),
    "cut off": (json.dumps(ALL)[:-30], "not JSON: .* where the file ends: is it cut off?"),
    "cut off behind a comma": (json.dumps(ALL[:1])[:-1] + ",", "is it cut off?"),
    "not closed": (json.dumps(ALL)[:-1], r", or \] is missing at character .* is it cut off"),
    "no JSON": ("image,score\n1,2\n" * 90, "not JSON: Expecting value at character 0$"),
    "two documents": ("[]" * 60, "not JSON: something follows the document at character 2$"),
    "deep": ("[" * 100_000, "recursion"),
    "a number": ("12", "must hold a list of detections or an object with annotations"),
    "no annotations": ({"images": []}, r"an object must hold annotations, got only \['images'\]"),
    "a part twice": ('{"images": [], "images": [], "annotations": []}', "a name of its own"),
    "no objects": ([1, [2], "three", None], "4 of 4 .*: entry 0 must be an object, got 1; entry 1"),
    "key missing": ([{"image_id": 1}], "1 of 1 .*: entry 0 lacks category_id, bbox, score$"),
    "ground truth": (
        [{k: v for k, v in entry().items() if k != "score"}],
        "lacks score: are these annotations, not detections?",
    ),
    "image id of 1.0": ([entry(1.0)], "a whole number or a text as image_id, got 1.0"),
    "image id of true": ([entry(True)], "a whole number or a text as image_id, got True"),
    "category as text": ([entry(category_id="1")], "a whole number as category_id, got '1'"),
    "score as text": ([entry(score="0.5")], "a number as score, got '0.5'"),
    "score as null": ([entry(score=None)], "a number as score, got None"),
    "box as text": ([entry(bbox="1234")], "four numbers .* as bbox, got '1234'"),
    "box of three": ([entry(bbox=[1, 2, 3])], r"as bbox, got \[1, 2, 3\]"),
    "box of texts": ([entry(bbox=["1", "2", "3", "4"])], "four numbers"),
    "box of flags": ([entry(bbox=[True, 1, 1, 1])], "four numbers"),
    "huge number": ([entry(bbox=[1, 1, 1, 10**400])], "four numbers"),
    "huge score": ([entry(score=-(10**400))], "a number as score"),
    "domain as number": ([entry(domain=1)], "a text as domain, got 1"),
    "NaN score": ([*ALL, entry(score=float("nan"))], "1 of 6 .*0 and 1: entry 5 has nan$"),
    "scores in percent": (
        [entry(score=s) for s in (99, 0.5, 1.01, -0.1, 30)],
        "4 of 5 .*: entry 0 has 99, entry 2 has 1.01, entry 3 has -0.1$",
    ),
    "infinite box": ([entry(bbox=[1, 2, float("inf"), 3])], r"not finite: .* has \[1.0, 2.0, inf"),
    "inverted box": ([*ALL, entry(bbox=[9, 9, -1, 3])], "1 of 6 .* of negative size: entry 5 has"),
    "fractions": ([entry(bbox=[0.1, 0.2, 0.5, 1])], "look like fractions of the image"),
    "unlisted image": (
        {"images": [IMAGE], "annotations": [entry(), entry("clear_1")]},
        "1 of 2 entries are of 1 images that its list of images lacks: 'clear_1'",
    ),
    "an image id twice": (
        {"images": [IMAGE, IMAGE], "annotations": []},
        "image ids in images must differ from each other, but 1 come more than once: clear_0",
    ),
    "one id as number and text": (
        {"images": [{"id": 1}, {"id": "1"}], "annotations": []},
        "but 1 come more than once: 1",
    ),
    "an image under two ids": (
        {"images": [IMAGE, IMAGE | {"id": 5}], "annotations": []},
        "1 images are listed under several ids: image 0 of clear",
    ),
    "image without id": ({"images": [{}], "annotations": []}, "images must have an id"),
    "images are no list": ({"images": 3, "annotations": []}, "images must be a list of objects"),
    "a category twice": (
        {"categories": [*NAMED["categories"], {"id": 1, "name": "bus"}], "annotations": []},
        "ids in categories must differ from each other, but 1 come more than once: 1",
    ),
    "category without name": (
        {"categories": [{"id": 1}], "annotations": []},
        "categories must have an id, a whole number, and a name",
    ),
    "annotations are no list": ({"annotations": None}, r"not JSON: \[ is missing at character 16"),
    "category out of range": (
        [entry(category_id=0), entry(category_id=3)],
        "category ids must be among 1, 2, got 0, 3",
    ),
    "named, and numbered": (NAMED | {"annotations": []}, "the file names its categories"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, content)
    assert str(tmp_path / "found.json") in str(error.value)


def test_refused_names_of_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="say which id its first class, bus, has"):
        read(tmp_path, ALL, CLASSES)
    content = NAMED | {"annotations": [entry(category_id=2)]}
    with pytest.raises(ValueError, match="category ids must be among 1, got 2"):
        read(tmp_path, content, CLASSES)
    content = {"categories": [{"id": 1, "name": "Car"}], "annotations": []}
    with pytest.raises(ValueError, match=r"none of its categories \(Car\) is a class"):
        read(tmp_path, content, CLASSES)
    found = read(tmp_path, NAMED | {"annotations": ALL}, CLASSES)
    assert remarks(found) == [
        ("clear", 1, "classes are not among the categories of found.json: bus")
    ]


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "found.json").write_bytes(b"\x93NUMPY\xff")
    with pytest.raises(ValueError, match=r"found\.json: .*can't decode"):
        read_entries(tmp_path / "found.json")
    with pytest.raises(FileNotFoundError):
        read_entries(tmp_path / "none.json")


def test_every_malformed_entry_is_counted(tmp_path: Path) -> None:
    rows: list[Any] = [entry(score=i / 30_000) for i in range(2 * BATCH + 5)]
    for place in (7, BATCH + 1, 2 * BATCH, 2 * BATCH + 4):
        rows[place] = None
    message = f"4 of {len(rows)} .*: entry 7 .*; entry {BATCH + 1} .*; entry {2 * BATCH} "
    with pytest.raises(ValueError, match=message):
        read_entries(write(tmp_path, rows))


# --- the size of files ----------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("indent", [None, 2])
def test_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, indent: int | None
) -> None:
    segmented = [
        entry(i, score=i / 9, segmentation={"counts": '}, {"', "size": [1]}) for i in range(9)
    ]
    content = {"n": 12, "annotations": segmented, "images": [{"id": i} for i in range(9)]}
    file = write(tmp_path, json.dumps(content, indent=indent))
    want = read_entries(file)
    monkeypatch.setattr(json_text, "BLOCK", block)
    found = read_entries(file)
    assert found.ids == want.ids == tuple(range(9))
    assert found.score.tolist() == want.score.tolist() == [i / 9 for i in range(9)]
    assert found.listed == want.listed


def test_the_place_of_an_error_counts_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(ALL)
    file = write(tmp_path, f"{text[:-1]}; {text}")
    for block in (50, 10_000):
        monkeypatch.setattr(json_text, "BLOCK", block)
        with pytest.raises(ValueError, match=f"is missing at character {len(text) - 1}$"):
            read_entries(file)


def test_memory_is_that_of_the_numbers(tmp_path: Path) -> None:
    count = 60_000
    text = json.dumps(entry())
    file = write(tmp_path, "[" + ",".join([text] * count) + "]")
    tracemalloc.start()
    try:
        entries = read_entries(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(entries) == count
    assert peak < 25e6  # of 52 bytes an entry, a batch of objects and a piece of the text
