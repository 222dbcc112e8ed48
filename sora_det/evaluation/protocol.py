"""How scores were made: the rules, the data and the model behind a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SplitInfo:
    """Which images and boxes a score stands on.

    Attributes:
        domain: name of the domain.
        dataset: registered name, such as "diverse_weather/dusk-rainy/test".
        file: name of the split file, without its folder; empty if unknown.
        sha256: checksum of that file; empty if unknown.
        images: number of images.
        boxes: counted ground-truth boxes.
        ignored: ignored ground-truth boxes.
    """

    domain: str
    dataset: str
    file: str
    sha256: str
    images: int
    boxes: int
    ignored: int


@dataclass(frozen=True)
class Protocol:
    """Everything that must be equal before two tables may be compared.

    Attributes:
        classes: class names in order.
        iou: IoU threshold of AP50, as a fraction.
        strict: a match needs IoU > iou, not IoU >= iou.
        interpolation: "11point" or "area".
        pixel: "continuous" (width x2 - x1 of Detectron2's boxes, VOC's pixel count) or
            "inclusive" (width x2 - x1 + 1).
        difficult: what happens to difficult and crowd boxes: "ignored" or "counted".
        clipped: detections are cut off at the border of the original image.
        absent_classes: classes without ground truth are left out of the mean ("skip") or count
            as "zero".
        max_detections: the model's limit of detections per image, None if unknown.
        score_threshold: the model's lowest score kept, None if unknown.
        coco_max_detections: COCO's limit per image and class.
        splits: one entry per domain.
    """

    classes: tuple[str, ...]
    iou: float
    strict: bool
    interpolation: Literal["11point", "area"]
    pixel: Literal["continuous", "inclusive"]
    difficult: Literal["ignored", "counted"]
    clipped: bool
    absent_classes: Literal["skip", "zero"]
    max_detections: int | None
    score_threshold: float | None
    coco_max_detections: int
    splits: tuple[SplitInfo, ...]


@dataclass(frozen=True)
class RunInfo:
    """What was evaluated. Unknown entries stay empty or None.

    Attributes:
        config: path or name of the configuration.
        config_sha256: its checksum.
        method: how the backbone was adapted, such as "SoRA(rank=16)".
        seed: random seed of the training.
        checkpoint: name of the file that holds what was scored, "" without one.
        iteration: iterations trained, 0 for an untrained model, None if the file does not say.
        weights: where the weights came from.
        random_init: the backbone started from random numbers, not from pretrained weights.
        trainable: number of trained parameters.
        parameters: number of all parameters.
        detectron2, torch: versions.
        date: the day of the evaluation, ISO 8601.
    """

    config: str = ""
    config_sha256: str = ""
    method: str = ""
    seed: int | None = None
    checkpoint: str = ""
    iteration: int | None = None
    weights: str = ""
    random_init: bool = False
    trainable: int | None = None
    parameters: int | None = None
    detectron2: str = ""
    torch: str = ""
    date: str = ""
