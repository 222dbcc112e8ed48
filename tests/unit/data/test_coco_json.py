import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detectron2.structures import BoxMode

from sora_det.data.coco_json import coco_records
from tests.unit.data.annotation_trees import write_coco

IDS = {"car": 0, "person": 1, "rider": 1}
CONTENT: dict[str, Any] = {
    "categories": [{"id": 26, "name": "car"}, {"id": 3, "name": "rider"}, {"id": 4, "name": "Car"}],
    "images": [
        {"id": 7, "file_name": "town/b.png", "width": 32, "height": 24},
        {"id": 2, "file_name": "a.png"},
    ],
    "annotations": [
        {"id": 1, "image_id": 2, "category_id": 26, "bbox": [1.5, 2, 10, 5.25], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 4, 4], "iscrowd": 1},
        {"id": 3, "image_id": 7, "category_id": 4, "bbox": [0, 0, 4, 4]},
        {"id": 4, "image_id": 7, "category_id": 26, "bbox": [3, 3, 0, 4]},
        {"id": 5, "image_id": 7, "category_id": 26, "bbox": [3, 3, 2, 4], "ignore": 1},
    ],
}


def read(folder: Path, content: dict[str, Any]) -> list[dict[str, Any]]:
    file = write_coco(folder, "train.json", content)
    return coco_records(file, folder, category_ids=IDS, domain="day")


def test_records(tmp_path: Path) -> None:
    first, second = read(tmp_path, CONTENT)
    assert (first["image_id"], first["file_name"]) == (7, str(tmp_path / "town/b.png"))
    assert [box["iscrowd"] for box in first["annotations"]] == [1, 1]
    assert [box["category_id"] for box in first["annotations"]] == [1, 0]
    assert (second["width"], second["height"], second["domain"]) == (32, 24, "day")
    assert second["annotations"] == [
        {
            "bbox": [1.5, 2.0, 11.5, 7.25],
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": 0,
            "iscrowd": 0,
        }
    ]


def test_what_is_skipped_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="sora_det.data.checks"):
        read(tmp_path, CONTENT)
    lines = [r.message for r in caplog.records if r.name == "sora_det.data.checks"]
    assert lines[0].endswith("other classes: Car 1")
    assert lines[1].endswith("skipped 1 boxes without area")


def test_one_missing_image_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_coco(tmp_path, "train.json", CONTENT)
    (tmp_path / "a.png").unlink()
    with caplog.at_level(logging.WARNING):
        found = coco_records(file, tmp_path, category_ids=IDS, domain="day")
    assert [record["image_id"] for record in found] == [7]
    assert "skipped 1 of 2 images, missing: a.png" in caplog.messages[0]


def edit(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("images", 0, "id", value=2), r"more of \[2\]"),
        (edit("annotations", 0, "image_id", value=99), "KeyError"),
        (edit("annotations", 0, "category_id", value=99), "KeyError"),
        (edit("annotations", 0, "bbox", value=[1, 2, 3]), "not enough values"),
        (edit("annotations", 0, "bbox", value=[1, 2, float("nan"), 3]), "finite numbers"),
        (edit("annotations", 0, "bbox", value=None), "TypeError"),
        (edit("annotations", value={"a": 1}), "TypeError"),
        (edit("categories", value="car"), "TypeError"),
        (edit("images", 1, "width", value=float("inf")), "OverflowError"),
    ],
)
def test_broken_files_are_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    content = copy.deepcopy(CONTENT)
    change(content)
    with pytest.raises(ValueError, match=rf"train\.json: not a COCO annotation file: .*{message}"):
        read(tmp_path, content)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", "null", "[" * 100_000])
def test_other_contents(tmp_path: Path, text: str) -> None:
    file = tmp_path / "train.json"
    file.write_text(text)
    with pytest.raises(ValueError, match="not a COCO annotation file"):
        coco_records(file, tmp_path, category_ids=IDS, domain="day")


def test_names_that_leave_the_folder(tmp_path: Path) -> None:
    content = CONTENT | {"images": [{"id": 2, "file_name": "../a.png"}], "annotations": []}
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="free of"):
        coco_records(tmp_path / "train.json", tmp_path, category_ids=IDS, domain="day")


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no annotation file .*train\.json: check"):
        coco_records(tmp_path / "train.json", tmp_path, category_ids=IDS, domain="day")
    with pytest.raises(ValueError, match="at least one image"):
        read(tmp_path, {"images": [], "annotations": [], "categories": []})
