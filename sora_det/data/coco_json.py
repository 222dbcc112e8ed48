"""COCO annotations: one JSON file per split to a list of records."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode

from ..untrusted.text import reason
from .benchmark import check_below, check_shown
from .checks import Places, Tally, check_pixels
from .images import image_size

logger = logging.getLogger(__name__)

# What reading a file of another shape can raise.
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


def coco_records(
    annotation: Path,
    images: Path,
    *,
    category_ids: Mapping[str, int],
    domain: str,
    lenient: bool = False,
    root: Path | None = None,
) -> list[dict[str, Any]]:
    """Records of one split, in the order of its file.

    Categories are matched by name, whatever their numbers. Boxes [x, y, width, height] become
    continuous corners; crowds stay crowds: not trained on, not counted in evaluation.

    Args:
        annotation: the JSON file.
        images: folder that its `file_name`s start from.
        category_ids: known names of categories, to class positions.
        domain: written into every record.
        lenient: leave out images that are missing, or that say no size and cannot be read.
        root: links may lead into it, beside the folder of images.

    Raises:
        FileNotFoundError: if the file, or too many images, are missing.
        ValueError: if the file is malformed; it is named.
    """
    if not annotation.is_file():
        raise FileNotFoundError(
            f"no annotation file {annotation}: check the benchmark's root, folder and splits"
        )
    tally = Tally(lenient=lenient)
    try:
        content = json.loads(annotation.read_text(encoding="utf-8"))
        boxes = _boxes_by_image(content, category_ids, tally)
        places = Places(root or images, images)
        records = _records(content["images"], boxes, images, domain, tally, places)
        total = len(content["images"])
    except _MALFORMED as error:
        raise ValueError(
            f"{annotation}: not a COCO annotation file: {reason(repr(error))}"
        ) from error
    if not total:
        raise ValueError(f"{annotation}: a split must name at least one image, got none")
    tally.report(str(annotation), total)
    logger.info("%s: %d images", annotation, len(records))
    return records


def category_names(annotation: Path) -> dict[int, str]:
    """Category ids of an annotation file, with their names.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is malformed.
    """
    try:
        content = json.loads(annotation.read_text(encoding="utf-8"))
        return {int(category["id"]): str(category["name"]) for category in content["categories"]}
    except _MALFORMED as error:
        raise ValueError(
            f"{annotation}: not a COCO annotation file: {reason(repr(error))}"
        ) from error


def _records(
    entries: list[dict[str, Any]],
    boxes: Mapping[int | str, list[dict[str, Any]]],
    folder: Path,
    domain: str,
    tally: Tally,
    places: Places,
) -> list[dict[str, Any]]:
    records = []
    for entry in entries:
        name, number = entry["file_name"], entry["id"]
        if type(name) is not str or type(number) not in (int, str):
            raise ValueError("an image needs a text as file_name, and as id a number or a text")
        check_below(name, "images")
        check_shown(str(number), "an id")
        file = folder / name
        if not file.is_file():
            tally.missing.append(name)
            continue
        width, height = int(entry.get("width") or 0), int(entry.get("height") or 0)
        check_pixels((width, height), "a size")
        try:
            places.check(file)
            if width < 1 or height < 1:
                width, height = image_size(file)
        except ValueError as error:
            tally.leave_out(error)
            continue
        records.append(
            {
                "file_name": str(file),
                "height": height,
                "width": width,
                "image_id": number,
                "domain": domain,
                "annotations": boxes[number],
            }
        )
    return records


def _boxes_by_image(
    content: dict[str, Any], category_ids: Mapping[str, int], tally: Tally
) -> dict[int | str, list[dict[str, Any]]]:
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    ids = [entry["id"] for entry in content["images"]]
    twice = [one for one, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"image ids must differ from each other, got more of {twice[:5]}")
    boxes: dict[int | str, list[dict[str, Any]]] = {one: [] for one in ids}
    for entry in content["annotations"]:
        name = names[entry["category_id"]]
        if name not in category_ids:
            tally.unknown[name] += 1
            continue
        box = _corners(entry["bbox"])
        if box[2] <= box[0] or box[3] <= box[1]:
            tally.empty_boxes += 1
            continue
        boxes[entry["image_id"]].append(
            {
                "bbox": box,
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": category_ids[name],
                "iscrowd": int(bool(entry.get("iscrowd")) or bool(entry.get("ignore"))),
            }
        )
    return boxes


def _corners(bbox: list[float]) -> list[float]:
    """[x, y, width, height] to [x0, y0, x1, y1], in pixels."""
    x, y, width, height = map(float, bbox)
    check_pixels((x, y, width, height), "a bbox")
    return [x, y, x + width, y + height]
