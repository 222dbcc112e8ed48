"""The images and boxes that a benchmark asks for, read from its annotations."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.benchmark import Benchmark
from ..data.register import records
from .ap import Array, Detections, GroundTruth
from .protocol import SplitInfo
from .saved import DomainData, Role


@dataclass(frozen=True, eq=False)
class Truth:
    """One split of one domain; indices of images count into `ids`.

    Attributes:
        domain: its name.
        role: "source" or "target".
        classes: their names; labels of boxes count into them.
        ids: of the images, each once.
        files: of the images, below `root`, with "/" between folders.
        root: the benchmark's folder.
        size: (images, 2) width and height in pixels.
        boxes: all of them, XYXY in pixels; crowds and difficult objects are ignored.
        split: where they come from, and their counts.
    """

    domain: str
    role: Role
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    files: tuple[str, ...]
    root: str
    size: Array
    boxes: GroundTruth
    split: SplitInfo

    def with_detections(self, detections: Detections) -> DomainData:
        """Return what scoring needs; images of `detections` count into `ids`."""
        return DomainData(
            domain=self.domain,
            role=self.role,
            classes=self.classes,
            ids=self.ids,
            files=self.files,
            root=self.root,
            size=self.size,
            truth=self.boxes,
            detections=detections,
        )


def read_truth(benchmark: Benchmark, domain: str, split: str = "test") -> Truth:
    """Read the annotations of one split.

    Raises:
        OSError: files are missing.
        ValueError: an unknown domain or split, malformed files, no image, or an image twice.
    """
    images = records(benchmark, domain, split)
    if not images:
        raise ValueError(f"domain {domain!r} has no images in its split {split!r}")
    ids = tuple(str(image["image_id"]) for image in images)
    if len(set(ids)) < len(ids):
        raise ValueError(f"domain {domain!r} lists {len(ids) - len(set(ids))} images twice")
    rows = [(i, box) for i, image in enumerate(images) for box in image["annotations"]]
    boxes = GroundTruth(
        image=np.array([i for i, _ in rows], dtype=np.int64),
        label=np.array([box["category_id"] for _, box in rows], dtype=np.int64),
        box=np.array([box["bbox"] for _, box in rows], dtype=np.float64).reshape(-1, 4),
        ignore=np.array([bool(box["iscrowd"]) for _, box in rows], dtype=bool),
    )
    size = np.array([(image["width"], image["height"]) for image in images], dtype=np.float64)
    root = str(benchmark.root)
    files = (os.path.relpath(image["file_name"], root) for image in images)
    return Truth(
        domain=domain,
        role="source" if domain == benchmark.source.name else "target",
        classes=tuple(benchmark.classes),
        ids=ids,
        files=tuple(file.replace(os.sep, "/") for file in files),
        root=os.path.abspath(root),
        size=size,
        boxes=boxes,
        split=_describe(benchmark, domain, split, ids, size, boxes),
    )


def _describe(
    benchmark: Benchmark,
    domain: str,
    split: str,
    ids: tuple[str, ...],
    size: Array,
    boxes: GroundTruth,
) -> SplitInfo:
    file = _split_file(benchmark, domain, split)
    ignored = int(boxes.ignore.sum())
    annotations = hashlib.sha256("\n".join(ids).encode())
    for values in (size, boxes.image, boxes.label, boxes.box, boxes.ignore):
        annotations.update(np.ascontiguousarray(values).tobytes())
    return SplitInfo(
        domain=domain,
        dataset=benchmark.dataset_name(domain, split),
        file=file.name if file else "",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest() if file else "",
        images=len(ids),
        boxes=len(boxes) - ignored,
        ignored=ignored,
        annotations=annotations.hexdigest(),
    )


def _split_file(benchmark: Benchmark, domain: str, split: str) -> Path | None:
    found = benchmark.domain(domain)
    name = found.splits[benchmark.part(domain, split)]
    below = f"ImageSets/Main/{name}.txt" if benchmark.format == "voc" else name
    files = [benchmark.root / folder / below for folder in found.folders]
    return next((file for file in files if file.is_file()), None)
