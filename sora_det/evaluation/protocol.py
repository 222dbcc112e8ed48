"""How scores were made: the rules, the data and the model behind a table."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal


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
        annotations: SHA-256 over the images' names and sizes and all their boxes; empty if
            unknown.
    """

    domain: str
    dataset: str
    file: str
    sha256: str
    images: int
    boxes: int
    ignored: int
    annotations: str = ""


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
        min_side: ground truth with a side below so many pixels is left out, as if it were not
            annotated; 0 leaves out none. Leaving boxes out moves scores, mostly up.
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
    min_side: float = 0.0

    def __post_init__(self) -> None:
        if not self.min_side >= 0:
            raise ValueError(f"min_side must be 0 or more pixels, got {self.min_side}")

    def differences(self, other: Protocol) -> list[str]:
        """Say in what two protocols are known to differ, one phrase each.

        Where one of them does not know, no difference is known. Without any, scores compare.
        """
        found = [
            f"{field.name} {_shown(ours)} and {_shown(theirs)}"
            for field in fields(self)
            if field.name != "splits"
            and _differ(ours := getattr(self, field.name), theirs := getattr(other, field.name))
        ]
        one, two = ({split.domain: split for split in p.splits} for p in (self, other))
        if set(one) != set(two):
            found.append(f"domains {_shown(tuple(one))} and {_shown(tuple(two))}")
        for name in (name for name in one if name in two):
            for key in ("images", "boxes", "ignored", "sha256", "annotations"):
                if _differ(ours := getattr(one[name], key), theirs := getattr(two[name], key)):
                    found.append(f"{key} of {name} {_shown(ours)} and {_shown(theirs)}")
        return found


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
        sora_det, python: versions.
        device: what the detector ran on, such as "cpu" or the name of a GPU.
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
    sora_det: str = ""
    python: str = ""
    device: str = ""


def _differ(ours: Any, theirs: Any) -> bool:
    return ours != theirs and not any(value is None or value == "" for value in (ours, theirs))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(str, value))})"
    return value[:12] if isinstance(value, str) else str(value)
