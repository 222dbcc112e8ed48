"""PASCAL VOC annotations: one XML file to one record, one split file to a list of names.

A domain's folder holds JPEGImages/, Annotations/ and ImageSets/Main/<split>.txt. Files are read
with tolerance for what real collections hold (no `difficult`, no `size`, fractional coordinates,
no object) and are never rewritten.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser, parse

from detectron2.structures import BoxMode

from ..untrusted.text import reason
from .benchmark import PLAIN_PATH, check_below
from .checks import Tally, check_pixels
from .images import image_size

IMAGE_SUFFIXES = (".jpg", ".png", ".jpeg", ".JPG", ".PNG", ".JPEG")

MOST_BYTES = 16_000_000  # of an annotation file; its tree has some 20 times as many in memory

# A list of names that need no look at each of them, as most are.
_PLAIN_SPLIT = re.compile(rf"(?:{PLAIN_PATH}\n)+")

_FLAGS = ("0", "1", "-1")  # second column of VOC's class lists


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
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not a text file: {error}") from error
    if _PLAIN_SPLIT.fullmatch(text):
        names = text.split()
    else:
        names = [without_flag(line.strip()) for line in text.splitlines() if line.strip()]
        for name in names:
            check_below(name, str(file))
    if not names:
        raise ValueError(f"{file}: a split must name at least one image, got none")
    own = [image_name(name) for name in names]
    if len({*own}) < len(own):
        twice = [name for name, count in Counter(own).items() if count > 1]
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
    return parse(file, XMLParser(target=_Tree())).getroot()


class _Tree(TreeBuilder):
    """Refuses document types: without one there are no entities, which may be bombs or files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise ValueError("it has a document type (DTD), which annotations have no use for")


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
    stem, endings = split_name(name)
    files = (folder / (stem + ending) for ending in endings)
    return next((file for file in files if file.is_file()), None)


def image_name(name: str) -> str:
    return split_name(name)[0]


def split_name(name: str) -> tuple[str, tuple[str, ...]]:
    """Return a name without its ending, and the endings that its image may have, likely first."""
    if not name.endswith(IMAGE_SUFFIXES):
        return name, IMAGE_SUFFIXES
    ending = next(ending for ending in IMAGE_SUFFIXES if name.endswith(ending))
    return name.removesuffix(ending), (ending, *IMAGE_SUFFIXES)


def without_flag(line: str) -> str:
    name, _, flag = line.replace("\t", " ").rpartition(" ")
    return name.strip() if flag in _FLAGS and name.strip() else line
