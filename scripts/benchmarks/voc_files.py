"""Detections and ground truth as Detectron2's VOC evaluator takes them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances

from sora_det.evaluation import Detections, GroundTruth

OBJECT = """<object><name>{}</name><pose>Left</pose><truncated>0</truncated>
<difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>
</bndbox></object>"""


@contextmanager
def registered(
    folder: Path, truth: GroundTruth, classes: Sequence[str], *, images: int, year: int = 2007
) -> Iterator[str]:
    """Write a VOC data set of whole-numbered boxes, and forget its registered name at the end."""
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "test.txt").write_text("\n".join(map(str, range(images))))
    corner = np.round(truth.box).astype(int) + np.array([1, 1, 0, 0])  # VOC counts pixels from 1
    objects: list[list[str]] = [[] for _ in range(images)]
    for image, label, ignore, box in zip(
        truth.image.tolist(), truth.label.tolist(), truth.ignore.tolist(), corner, strict=True
    ):
        objects[image].append(OBJECT.format(classes[label], int(ignore), *box))
    for image, texts in enumerate(objects):
        text = f"<annotation>{''.join(texts)}</annotation>"
        (folder / "Annotations" / f"{image}.xml").write_text(text)
    name = f"voc files in {folder}"
    MetadataCatalog.get(name).set(
        dirname=str(folder), split="test", year=year, thing_classes=list(classes)
    )
    try:
        yield name
    finally:
        MetadataCatalog.pop(name)


def batches(detections: Detections, images: int) -> list[tuple[list[Any], list[Any]]]:
    """Input and output of a model for every image, in order."""
    order = np.argsort(detections.image, kind="stable")
    parts = np.split(order, np.searchsorted(detections.image[order], np.arange(1, images)))
    return [
        ([{"image_id": str(image)}], [{"instances": _instances(detections, rows)}])
        for image, rows in enumerate(parts)
    ]


def _instances(detections: Detections, rows: np.ndarray) -> Instances:
    found = Instances((1, 1))
    found.pred_boxes = Boxes(torch.from_numpy(detections.box[rows].astype(np.float32)))
    found.scores = torch.from_numpy(detections.score[rows].astype(np.float32))
    found.pred_classes = torch.from_numpy(detections.label[rows].astype(np.int64))
    return found
