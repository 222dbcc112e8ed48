"""PASCAL VOC annotations: one XML file to one record, one split file to a list of records.

A domain's folder holds JPEGImages/, Annotations/ and ImageSets/Main/<split>.txt. Files are read
with tolerance for what real collections hold (no `difficult`, no `size`, fractional coordinates,
no object) and are never rewritten.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.ElementTree import parse
from detectron2.structures import BoxMode

from ..untrusted.text import reason
from .benchmark import check_below
from .checks import Places, Tally, check_pixels
from .images import image_size

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".png", ".jpeg", ".JPG", ".PNG", ".JPEG")

MOST_BYTES = 16_000_000  # of an annotation file; its tree has some 20 times as many in memory

_FLAGS = ("0", "1", "-1")  # second column of VOC's class lists


def voc_records(
    folder: Path,
    split: str,
    *,
    category_ids: Mapping[str, int],
    domain: str,
    lenient: bool = False,
    root: Path | None = None,
) -> list[dict[str, Any]]:
    """Records of one split, in the order of its file.

    Args:
        folder: holds JPEGImages, Annotations and ImageSets.
        split: name of a file in ImageSets/Main, without .txt.
        category_ids: known names of objects, to class positions.
        domain: written into every record.
        lenient: leave out images that are missing or whose annotation file is malformed.
        root: links may lead into it, beside the folders of images and of annotations.

    Raises:
        FileNotFoundError: if the split file, or too many images, are missing.
        ValueError: if the split file or an annotation file is malformed; it is named.
    """
    split_file = folder / "ImageSets" / "Main" / f"{split}.txt"
    tally = Tally(lenient=lenient)
    records = []
    names = read_split(split_file)
    images, annotations = folder / "JPEGImages", folder / "Annotations"
    places = Places(root or folder, images, annotations)
    for name in names:
        image = find_image(images, name)
        annotation = annotations / f"{image_name(name)}.xml"
        if image is None or not annotation.is_file():
            tally.missing.append(name)
            continue
        try:
            places.check(image)
            places.check(annotation)
            record = voc_record(annotation, image, category_ids=category_ids, tally=tally)
        except ValueError as error:
            tally.leave_out(error)
            continue
        records.append(record | {"image_id": image_name(name), "domain": domain})
    tally.report(str(split_file), len(names))
    logger.info("%s: %d images", split_file, len(records))
    return records


def read_split(file: Path) -> list[str]:
    """Image names of a split file: one a line, a trailing 1, 0 or -1 of class lists ignored.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a name that leaves the folder, appears twice, or if there is none.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"no split file {file}: check the benchmark's root, folder and split names"
        )
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not a text file: {error}") from error
    names = [without_flag(line.strip()) for line in lines if line.strip()]
    if not names:
        raise ValueError(f"{file}: a split must name at least one image, got none")
    for name in names:
        check_below(name, str(file))
    twice = [name for name, count in Counter(map(image_name, names)).items() if count > 1]
    if twice:
        raise ValueError(f"{file}: an image may appear once, got more of {twice[:5]}")
    return names


def voc_record(
    annotation: Path, image: Path, *, category_ids: Mapping[str, int], tally: Tally | None = None
) -> dict[str, Any]:
    """One annotation file to a record, without `image_id` and `domain`.

    VOC counts pixels from 1 and includes the last one; records hold continuous corners
    [xmin - 1, ymin - 1, xmax, ymax] instead, Detectron2's convention. Difficult objects become
    crowds: not trained on, not counted in evaluation.

    Args:
        tally: counts objects of unknown classes and boxes without area, which are left out.

    Raises:
        ValueError: if the file is not such an annotation.
    """
    tally = Tally() if tally is None else tally
    try:
        tree = annotation_tree(annotation)
        width, height = stated_size(tree) or image_size(image)
        objects = []
        for element in tree.findall("object"):
            name = (element.findtext("name") or "").strip()
            if not name:
                raise ValueError("an object has no name")
            if name not in category_ids:
                tally.unknown[name] += 1
                continue
            box = object_box(element)
            if box[2] <= box[0] or box[3] <= box[1]:
                tally.empty_boxes += 1
                continue
            objects.append(
                {
                    "bbox": box,
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": category_ids[name],
                    "iscrowd": int((element.findtext("difficult") or "").strip() == "1"),
                }
            )
    except (ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{annotation}: not a VOC annotation: {reason(repr(error))}") from error
    return {"file_name": str(image), "height": height, "width": width, "annotations": objects}


def annotation_tree(file: Path) -> Element:
    """Parse an annotation file.

    Raises:
        OSError: it cannot be read.
        ValueError, ParseError, LookupError: it is no XML, has a document type, or is too large.
    """
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
    return parse(file, forbid_dtd=True).getroot()


def object_box(element: Element) -> list[float]:
    """Corners [x0, y0, x1, y1] in pixels, continuous; fractions are cut off."""
    box = element.find("bndbox")
    corners = [] if box is None else [box.findtext(k) for k in ("xmin", "ymin", "xmax", "ymax")]
    if not corners or None in corners:
        raise ValueError("an object needs bndbox with xmin, ymin, xmax and ymax")
    x0, y0, x1, y1 = (_number(corner or "") for corner in corners)
    check_pixels((x0, y0, x1, y1), "a corner")
    return [float(x0 - 1), float(y0 - 1), float(x1), float(y1)]


def stated_size(tree: Element) -> tuple[int, int] | None:
    """Width and height in pixels, None where the file does not give both."""
    texts = [tree.findtext(f"size/{key}") for key in ("width", "height")]
    if not all(text and text.strip() for text in texts):
        return None
    width, height = (_number(text or "") for text in texts)
    check_pixels((width, height), "a size")
    return (width, height) if width > 0 and height > 0 else None


def _number(text: str) -> int:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"a coordinate must be a finite number, got {text!r}")
    return int(value)


def find_image(folder: Path, name: str) -> Path | None:
    """The image called `name`, which may hold its ending; None if there is none."""
    endings = ("", *IMAGE_SUFFIXES) if name.endswith(IMAGE_SUFFIXES) else IMAGE_SUFFIXES
    stem = image_name(name)
    files = (folder / (name if ending == "" else stem + ending) for ending in endings)
    return next((file for file in files if file.is_file()), None)


def image_name(name: str) -> str:
    for suffix in IMAGE_SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def without_flag(line: str) -> str:
    name, _, flag = line.replace("\t", " ").rpartition(" ")
    return name.strip() if flag in _FLAGS and name.strip() else line
