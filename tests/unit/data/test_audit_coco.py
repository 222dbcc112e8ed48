"""Every kind of problem of a COCO benchmark is found where it is; see test_audit.py for VOC."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sora_det.data import Benchmark
from tests.unit.data.audit_trees import change, coco_weather, found

TRAIN = "clear/train"


@pytest.fixture
def coco(tmp_path: Path) -> Benchmark:
    return coco_weather(tmp_path)


def images(content: dict[str, Any]) -> list[dict[str, Any]]:
    return content["images"]


def boxes(content: dict[str, Any]) -> list[dict[str, Any]]:
    return content["annotations"]


COCO_CASES: dict[str, tuple[Callable[[dict[str, Any]], object], list[tuple[str, str]]]] = {
    "no images": (lambda c: images(c).clear() or boxes(c).clear(), [("empty-split", "")]),
    "no list": (lambda c: c.update(images={}), [("unreadable-split", "")]),
    "no categories": (lambda c: c.pop("categories"), [("unreadable-split", "")]),
    "an image id twice": (
        lambda c: images(c)[2].update(id=1),
        [("duplicate-id", "1"), ("unreadable-annotation", "")],  # and a box of no image
    ),
    "an annotation id twice": (lambda c: boxes(c)[2].update(id=9), [("duplicate-id", "2")]),
    "a category twice": (
        lambda c: c["categories"].append({"id": 7, "name": "person"}),
        [("duplicate-id", "")],
    ),
    "a name that climbs": (
        lambda c: images(c)[2].update(file_name="../fog/JPEGImages/i.jpg"),
        [("bad-name", "2")],
    ),
    "an image that is none": (
        lambda c: images(c).append("x"),
        [("unreadable-annotation", "")],
    ),
    "an image without id": (
        lambda c: images(c).append({"file_name": "x.jpg"}),
        [("unreadable-annotation", "")],
    ),
    "a size that is none": (
        lambda c: images(c)[2].update(width="wide"),
        [("unreadable-annotation", "2")],
    ),
    "no image file": (
        lambda c: images(c)[2].update(file_name="JPEGImages/none.jpg"),
        [("missing-image", "2")],
    ),
    "another size": (lambda c: images(c)[2].update(width=63), [("size-differs", "2")]),
    "no size": (lambda c: images(c)[2].update(width=0), []),
    "a box of no image": (
        lambda c: boxes(c)[2].update(image_id=77),
        [("unreadable-annotation", "")],
    ),
    "a box of no category": (
        lambda c: boxes(c)[2].update(category_id=77),
        [("unreadable-annotation", "")],
    ),
    "boxes that are none": (
        lambda c: [box.update(bbox=bad) for box, bad in zip(boxes(c), BAD, strict=False)],
        [("unreadable-annotation", str(i)) for i in range(6)],
    ),
    "an annotation that is none": (
        lambda c: boxes(c).append(None),
        [("unreadable-annotation", "")],
    ),
    "another class": (
        lambda c: c["categories"][0].update(name="tram"),
        [("unknown-class", str(i)) for i in range(6)],
    ),
    "inverted": (lambda c: boxes(c)[2].update(bbox=[9, 9, -3, 4]), [("inverted-box", "2")]),
    "no area": (lambda c: boxes(c)[2].update(bbox=[9, 9, 0, 4]), [("empty-box", "2")]),
    "outside": (lambda c: boxes(c)[2].update(bbox=[60, 9, 5.5, 4]), [("box-outside", "2")]),
    "hardly outside": (lambda c: boxes(c)[2].update(bbox=[-0.5, 0, 65, 4]), []),
    "the same file twice": (
        lambda c: images(c)[2].update(file_name="JPEGImages/a.jpg"),
        [("repeated-image", "2")],
    ),
}
BAD = (None, [1, 2, 3], [1, 2, 3, "x"], [1, 2, 3, float("nan")], 5, [1, 2, 3, 1e30])


@pytest.mark.parametrize("case", COCO_CASES)
def test_one_problem_in_coco(coco: Benchmark, case: str) -> None:
    damage, wanted = COCO_CASES[case]
    change(coco, "clear/train.json", damage)
    assert found(coco) == [(kind, TRAIN, image) for kind, image in wanted]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", "null"])
def test_coco_files_that_are_none(coco: Benchmark, text: str) -> None:
    (coco.root / "clear/train.json").write_text(text)
    assert found(coco) == [("unreadable-split", TRAIN, "")]
