"""What a score is made of, on disk: detections and ground truth of a domain, without images.

One `<domain>.npz` file per domain, NumPy arrays and no pickles. From these files every score, curve
and picture can be made again without running the detector.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import numpy as np

from ..untrusted.archive import members
from ..untrusted.text import reason, shown
from .ap import Array, Detections, GroundTruth

FORMAT = 1
FOLDER = "detections"
LARGEST = 1e9  # of sizes, corners and scores; squares of it are still far from infinity
Role = Literal["source", "target"]

_ARRAYS = {  # name in the file -> kinds of dtype, shape after the first dimension
    "ids": ("U", ()),
    "files": ("U", ()),
    "size": ("f", (2,)),
    "truth_image": ("iu", ()),
    "truth_label": ("iu", ()),
    "truth_box": ("f", (4,)),
    "truth_ignore": ("b", ()),
    "image": ("iu", ()),
    "label": ("iu", ()),
    "score": ("f", ()),
    "box": ("f", (4,)),
}


@dataclass(frozen=True, eq=False)
class DomainData:
    """Images, ground truth and detections of one domain; indices of images count into `ids`.

    Attributes:
        domain: its name in the benchmark.
        role: "source" (trained on) or "target" (never seen).
        classes: class names in the order of labels.
        ids: of the images, each once.
        files: of the images, below `root`, with "/" between folders; "" where unknown.
        root: the benchmark's folder on the machine that wrote the file, for pictures only.
        size: (images, 2) width and height in pixels.
        truth: ground truth, all boxes that the annotations hold.
        detections: cut off at the borders of the images.
    """

    domain: str
    role: Role
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    files: tuple[str, ...]
    root: str
    size: Array
    truth: GroundTruth
    detections: Detections

    def __post_init__(self) -> None:
        images = len(self.ids)
        if len(set(self.ids)) < images:
            raise ValueError(f"domain {self.domain!r} lists an image twice")
        if len(self.files) != images or self.size.shape != (images, 2):
            raise ValueError(
                f"domain {self.domain!r} has {images} images, {len(self.files)} files and sizes of "
                f"shape {self.size.shape}"
            )
        for what, rows in (("detections", self.detections), ("ground truth", self.truth)):
            for name, limit in (("image", images), ("label", len(self.classes))):
                index = getattr(rows, name)
                if len(index) and not (index.min() >= 0 and index.max() < limit):
                    raise ValueError(
                        f"{what} of domain {self.domain!r}: {name} must be 0..{limit - 1}, got "
                        f"{index.min()}..{index.max()}"
                    )


def write_domain(data: DomainData, folder: str | Path) -> Path:
    """Write `<folder>/detections/<domain>.npz`, whole or not at all, and return its path."""
    path = Path(folder) / FOLDER / f"{data.domain}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {
        "format": FORMAT,
        "domain": data.domain,
        "role": data.role,
        "classes": data.classes,
        "root": data.root,
    }
    arrays: dict[str, Any] = {
        "header": np.array(json.dumps(head)),
        "ids": np.array(data.ids, dtype=str),
        "files": np.array(data.files, dtype=str),
        "size": data.size.astype(np.float64),
        "truth_image": data.truth.image,
        "truth_label": data.truth.label,
        "truth_box": data.truth.box,
        "truth_ignore": data.truth.ignore.astype(bool),
        "image": data.detections.image.astype(np.int32),
        "label": data.detections.label.astype(np.int16),
        "score": data.detections.score,
        "box": data.detections.box,
    }
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        os.chmod(name, 0o644)  # mkstemp makes files that only their owner may read
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def read_domain(file: str | Path) -> DomainData:
    """Read what `write_domain` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: no such file of ours, a damaged one, or one of a newer version. None of its
            members is compressed, and numbers are finite.
    """
    path = Path(file)
    try:
        members(path)
        with warnings.catch_warnings(), np.load(path, allow_pickle=False) as stored:
            warnings.simplefilter("ignore")  # of odd headers, which are refused if they matter
            head = json.loads(str(stored["header"]))
            if head["format"] != FORMAT:
                raise ValueError(f"it has format {head['format']}, this version reads {FORMAT}")
            arrays = {name: _checked(name, stored[name]) for name in _ARRAYS}
        if head["role"] not in get_args(Role):
            raise ValueError(f"its role is {head['role']!r}")
        return DomainData(
            domain=_text(head["domain"]),
            role=head["role"],
            classes=tuple(map(_text, head["classes"])),
            ids=tuple(arrays["ids"].tolist()),
            files=tuple(map(_below, arrays["files"].tolist())),
            root=_text(head["root"]),
            size=arrays["size"],
            truth=GroundTruth(*(arrays[f"truth_{k}"] for k in ("image", "label", "box", "ignore"))),
            detections=Detections(*(arrays[k] for k in ("image", "label", "score", "box"))),
        )
    except OSError:
        raise
    except Exception as error:  # NumPy has no common one for what damaged files make it raise
        raise ValueError(
            f"{shown(path.name)} holds no detections that can be read ({reason(error)}): score the "
            "run again"
        ) from error


def read_domains(folder: str | Path) -> list[DomainData]:
    """Read the detections of a run: every file of `<folder>/detections`, the source first."""
    files = sorted((Path(folder) / FOLDER).glob("*.npz"))
    return sorted(map(read_domain, files), key=lambda data: data.role != "source")


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"a text is needed, got {type(value).__name__}")
    return value


def _below(file: str) -> str:
    path = PurePosixPath(file.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in file or re.match("[A-Za-z]:", file):
        raise ValueError(f"it names a file outside: {file[:80]!r}")
    return file


def _checked(name: str, array: Array) -> Array:
    kinds, shape = _ARRAYS[name]
    if array.dtype.kind not in kinds or array.shape[1:] != shape or array.ndim != 1 + len(shape):
        raise ValueError(f"{name} has type {array.dtype} and shape {array.shape}")
    if "f" in kinds and not (np.abs(array) < LARGEST).all():  # NaN neither
        raise ValueError(f"{name} holds numbers that are not finite or beyond any image")
    return array
