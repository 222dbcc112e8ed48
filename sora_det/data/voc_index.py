"""All annotation files of a VOC split, read once and kept for as long as they stay the same."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..untrusted.archive import members
from .cache import cache_path, write_whole
from .checks import Tally
from .records import Records
from .voc_files import Files, find_files, stamps
from .voc_plain import Plain, read_plain
from .voc_xml import IMAGE_SUFFIXES, read_split, voc_record

logger = logging.getLogger(__name__)

VERSION = 1  # raise it whenever the same files give other records

_MOST_BYTES = 100_000  # of a file that may be plain
_CHUNK = 1000  # files whose objects are held as texts at a time
_SETTLED = 2e9  # ns; a file whose last change is as old as that gets another time by the next one

# Of what a cache holds: the arrays of `Records`, `loose`, places of files that are not plain, so
# that their images may have been looked at, `stamps` of all annotations and of these images.
_ARRAYS = ("names", "name_end", "ending", "size", "box_end", "box", "label", "crowd", "loose")
_Content = dict[str, np.ndarray]


def voc_records(
    folder: Path,
    split: str,
    *,
    category_ids: Mapping[str, int],
    domain: str,
    lenient: bool = False,
    root: Path | None = None,
    cache: bool = False,
) -> Records:
    """Records of one split, in the order of its file.

    Args:
        folder: holds JPEGImages, Annotations and ImageSets.
        split: name of a file in ImageSets/Main, without .txt.
        category_ids: known names of objects, to class positions.
        domain: written into every record.
        lenient: leave out images that are missing or whose annotation file is malformed.
        root: links may lead into it, beside the folders of images and of annotations.
        cache: keep what the files say in the user's cache folder, and take it from there while
            their names, times and sizes are the same.

    Raises:
        FileNotFoundError: if the split file, or too many images, are missing.
        ValueError: if the split file or an annotation file is malformed; it is named.
    """
    split_file = folder / "ImageSets" / "Main" / f"{split}.txt"
    names = read_split(split_file)
    tally = Tally(lenient=lenient)
    files = find_files(names, folder, root or folder, tally)
    about = json.dumps([VERSION, os.path.realpath(folder), split, [*category_ids.items()]])
    store = cache_path("index", about, ".npz") if cache else None
    content = _kept(store, about, files, category_ids, tally) if store else None
    if content is None:
        content, seen, settled = _read(files, category_ids, tally)
        if store and settled and not tally.malformed:
            _keep(store, about, content, seen, tally)
    tally.report(str(split_file), len(names))
    arrays = {name: content[name] for name in _ARRAYS if name != "loose"}
    records = Records(str(folder / "JPEGImages"), domain, IMAGE_SUFFIXES, **arrays)
    logger.info("%s: %d images, %d objects", split_file, len(records), len(records.label))
    return records


# --- reading ----------------------------------------------------------------------------


def _read(
    files: Files, category_ids: Mapping[str, int], tally: Tally
) -> tuple[_Content, np.ndarray, bool]:
    """Read annotation files.

    Returns:
        Arrays; stamps from before anything was read; whether later changes will show in these.
    """
    start = time.time_ns()
    seen = [stamps(files.sheets)]
    read, sizes, loose = Files(), list[tuple[int, int]](), list[int]()
    parts, part = list[_Content](), _Part(category_ids, tally)
    lengths = seen[0][:, 1].tolist()
    rows = zip(files.names, files.endings, files.images, files.sheets, lengths, strict=True)
    for name, ending, image, sheet, length in rows:
        plain = None
        if length <= _MOST_BYTES:
            with open(sheet, "rb", buffering=0) as stream:
                plain = read_plain(stream.read())
        if plain is None:
            seen.append(stamps([image]))
            try:
                plain = _loose(Path(sheet), Path(image), category_ids, tally)
            except ValueError as error:
                tally.leave_out(error)
                continue
            loose.append(len(sizes))
        read.add(name, IMAGE_SUFFIXES[ending], image, sheet)
        sizes.append((plain.width, plain.height))
        part.add(plain.objects)
        if len(part.counts) == _CHUNK:
            parts.append(part.arrays())
            part = _Part(category_ids, tally)
    parts.append(part.arrays())
    content = {key: np.concatenate([one[key] for one in parts]) for key in parts[0]}
    content["box_end"] = np.cumsum(content.pop("count"))
    content["size"] = np.array(sizes, dtype=np.int32).reshape(-1, 2)
    content["loose"] = np.array(loose, dtype=np.int64)
    stamped = np.concatenate(seen)
    settled = bool(stamped[:, 2].max(initial=0) < start - _SETTLED)
    return content | _named(read), stamped, settled


class _Part:
    """The objects of some files."""

    def __init__(self, category_ids: Mapping[str, int], tally: Tally) -> None:
        self.ids = {name.encode(): i for name, i in category_ids.items()}
        self.tally = tally
        self.columns: list[list[bytes]] = [[] for _ in range(6)]  # as `Plain` has them
        self.counts: list[int] = []

    def add(self, objects: list[list[bytes]]) -> None:
        for column, values in zip(self.columns, objects, strict=True):
            column += values
        self.counts.append(len(objects[0]))

    def arrays(self) -> _Content:
        """Return arrays as `Records` has them, and the `count` of boxes of each file."""
        names, difficult, *corners = self.columns
        label = np.array([self.ids.get(name, -1) for name in names], dtype=np.int32)
        texts = (b" ".join(column).decode("ascii") for column in corners)
        box = np.stack([np.trunc(np.fromstring(text, sep=" ")) for text in texts], axis=1)
        box -= (1, 1, 0, 0)
        known = label >= 0
        for name in np.flatnonzero(~known).tolist():
            self.tally.unknown[names[name].decode("utf-8")] += 1
        empty = (box[:, 2:] <= box[:, :2]).any(axis=1)
        self.tally.empty_boxes += int((empty & known).sum())
        keep = known & ~empty
        image = np.repeat(np.arange(len(self.counts)), self.counts)
        return {
            "count": np.bincount(image[keep], minlength=len(self.counts)),
            "box": box[keep].astype(np.float32),
            "label": label[keep],
            "crowd": np.array([hard == b"1" for hard in difficult], dtype=bool)[keep],
        }


def _loose(sheet: Path, image: Path, category_ids: Mapping[str, int], tally: Tally) -> Plain:
    """Read an annotation of any form; of its objects those that are known and have an area."""
    record = voc_record(sheet, image, category_ids=category_ids, tally=tally)
    names = {i: name.encode() for name, i in category_ids.items()}
    objects: list[list[bytes]] = [[] for _ in range(6)]
    for found in record["annotations"]:
        x0, y0, x1, y1 = map(int, found["bbox"])
        corners = (b"%d" % value for value in (x0 + 1, y0 + 1, x1, y1))
        row = (names[found["category_id"]], b"%d" % found["iscrowd"], *corners)
        for column, value in zip(objects, row, strict=True):
            column.append(value)
    return Plain(record["width"], record["height"], objects)


def _named(files: Files) -> _Content:
    names = [name.encode("utf-8") for name in files.names]
    return {
        "names": np.frombuffer(b"".join(names), dtype=np.uint8),
        "name_end": np.cumsum([*map(len, names)], dtype=np.int64),
        "ending": np.array(files.endings, dtype=np.uint8),
    }


# --- what is kept -----------------------------------------------------------------------


def _keep(store: Path, about: str, content: _Content, seen: np.ndarray, tally: Tally) -> None:
    """Write a cache. Processes that read the same split write the same one."""
    notes = json.dumps({"about": about, "unknown": tally.unknown, "empty": tally.empty_boxes})
    arrays = content | {"stamps": seen, "notes": np.frombuffer(notes.encode(), dtype=np.uint8)}
    write_whole(store, lambda stream: np.savez(stream, **arrays))  # type: ignore[arg-type]


def _kept(
    store: Path, about: str, files: Files, category_ids: Mapping[str, int], tally: Tally
) -> _Content | None:
    """Return what a cache holds, None if that is not of these files as they are now."""
    try:
        members(store)
        with np.load(store, allow_pickle=False) as archive:
            content = {name: archive[name] for name in (*_ARRAYS, "stamps", "notes")}
        notes = json.loads(content["notes"].tobytes())
        if notes["about"] != about:
            return None
        current = _named(files)
        loose = [files.images[i] for i in content["loose"].tolist()]
        current["stamps"] = stamps([*files.sheets, *loose])
        if not all(np.array_equal(content[name], value) for name, value in current.items()):
            return None
        _check(content, [*category_ids.values()])
        unknown, empty = Counter[str](notes["unknown"]), int(notes["empty"])
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file may make NumPy, zipfile and json raise anything
        logger.warning("%s: not used, it cannot be read: %r", store, error)
        return None
    tally.unknown, tally.empty_boxes = unknown, empty
    return content


def _check(content: _Content, labels: list[int]) -> None:
    """Raise ValueError unless arrays that somebody else may have written fit together."""
    images, boxes = len(content["name_end"]), len(content["label"])
    shapes = {"size": (images, 2), "box_end": (images,), "box": (boxes, 4), "crowd": (boxes,)}
    kinds = {"size": "int32", "box_end": "int64", "box": "float32", "label": "int32"}
    ends = np.array([0, *content["box_end"], boxes])
    if (
        any(content[name].shape != shape for name, shape in shapes.items())
        or any(content[name].dtype != kind for name, kind in kinds.items())
        or (np.diff(ends) < 0).any()
        or not np.isfinite(content["box"]).all()
        or not np.isin(content["label"], labels).all()
        or (content["size"] < 1).any()
    ):
        raise ValueError("its arrays do not fit together")
