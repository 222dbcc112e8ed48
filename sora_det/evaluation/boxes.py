"""Detections and ground truth of many images as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of many images, one row each, in any order.

    Attributes:
        image: (N,) integers >= 0, the index of the image.
        label: (N,) integers in 0..classes-1.
        score: (N,) finite floats.
        box: (N, 4) finite floats x1, y1, x2, y2 in pixels of the original image.
    """

    image: Array
    label: Array
    score: Array
    box: Array

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Ground truth of many images, one row each.

    Attributes:
        image, label, box: as in `Detections`.
        ignore: (G,) booleans. An ignored box counts neither as found nor as missed, and
            detections that overlap it best count neither as right nor as wrong.
    """

    image: Array
    label: Array
    box: Array
    ignore: Array

    def __len__(self) -> int:
        return len(self.image)


def drop_small(truth: GroundTruth, min_side: float) -> GroundTruth:
    """Leave out boxes with a side of less than `min_side` pixels; ignored ones stay."""
    if min_side <= 0:
        return truth
    sides = (truth.box[:, 2:] - truth.box[:, :2]).min(axis=1, initial=np.inf)
    keep = (sides >= min_side) | truth.ignore.astype(bool)
    return GroundTruth(truth.image[keep], truth.label[keep], truth.box[keep], truth.ignore[keep])


def check_boxes(detections: Detections, truth: GroundTruth, num_classes: int) -> None:
    """Refuse arrays that cannot be scored.

    Raises:
        ValueError: arrays of differing lengths, labels outside 0..num_classes-1, negative image
            indices, or numbers that are not finite.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    columns = {"score": detections.score}
    _check_rows("detections", detections.image, detections.label, detections.box, columns)
    _check_rows("ground truth", truth.image, truth.label, truth.box, {"ignore": truth.ignore})
    if not np.isfinite(detections.score).all():
        row = int(np.flatnonzero(~np.isfinite(detections.score))[0])
        raise ValueError(f"scores must be finite, got {detections.score[row]} in detection {row}")
    for what, rows in (("detections", detections), ("ground truth", truth)):
        if not np.isfinite(rows.box).all():
            row = int(np.flatnonzero(~np.isfinite(rows.box).all(axis=1))[0])
            raise ValueError(f"boxes of {what} must be finite, got {rows.box[row]} in row {row}")
        if len(rows) and not (0 <= rows.label.min() and rows.label.max() < num_classes):
            raise ValueError(
                f"labels of {what} must be 0..{num_classes - 1}, "
                f"got {rows.label.min()}..{rows.label.max()}"
            )
        if len(rows) and rows.image.min() < 0:
            raise ValueError(f"image indices of {what} must be >= 0, got {rows.image.min()}")


def _check_rows(
    what: str, image: Array, label: Array, box: Array, columns: dict[str, Array]
) -> None:
    rows = len(image)
    for name, column in {"image": image, "label": label, **columns}.items():
        if column.shape != (rows,):
            raise ValueError(f"{name} of {what} must have shape ({rows},), got {column.shape}")
    if box.shape != (rows, 4):
        raise ValueError(f"box of {what} must have shape ({rows}, 4), got {box.shape}")
    for name, column in (("image", image), ("label", label)):
        if column.dtype.kind not in "iu":
            raise ValueError(f"{name} of {what} must be integers, got {column.dtype}")
