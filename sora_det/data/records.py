"""The records of a split as a few arrays, from which dictionaries are made when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode


@dataclass(frozen=True, eq=False)
class Records(Sequence[dict[str, Any]]):
    """Records in Detectron2's format, as `records` describes them.

    Each is a dictionary of the caller's own. Processes that are forked share the arrays, while of
    dictionaries each would come to have copies.

    Attributes:
        folder: of the images.
        domain: its name, in every record.
        endings: of image files.
        names: the ids in UTF-8, one after the other, uint8.
        name_end: where each of them ends, int64 (n,).
        ending: of each image's file, its place in `endings`, uint8 (n,).
        size: width and height in pixels, int32 (n, 2).
        box_end: where each image's boxes end, int64 (n,).
        box: corners x0, y0, x1, y1 in pixels, whole numbers below 2^24, float32 (m, 4).
        label: category ids, int32 (m,).
        crowd: difficult ones, bool (m,).
    """

    folder: str
    domain: str
    endings: tuple[str, ...]
    names: np.ndarray
    name_end: np.ndarray
    ending: np.ndarray
    size: np.ndarray
    box_end: np.ndarray
    box: np.ndarray
    label: np.ndarray
    crowd: np.ndarray

    def __len__(self) -> int:
        return len(self.name_end)

    def __getitem__(self, index: Any) -> Any:
        """Return a record, or for a slice a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]  # raises IndexError, and counts from the end
        start, end = _bounds(self.name_end, at)
        name = self.names[start:end].tobytes().decode("utf-8")
        width, height = self.size[at].tolist()
        first, last = _bounds(self.box_end, at)
        rows = zip(
            self.box[first:last].tolist(),
            self.label[first:last].tolist(),
            self.crowd[first:last].tolist(),
            strict=True,
        )
        return {
            "file_name": str(Path(self.folder, name + self.endings[self.ending[at]])),
            "height": height,
            "width": width,
            "annotations": [
                {
                    "bbox": box,
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": label,
                    "iscrowd": int(crowd),
                }
                for box, label, crowd in rows
            ],
            "image_id": name,
            "domain": self.domain,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))


def _bounds(ends: np.ndarray, at: int) -> tuple[int, int]:
    return (int(ends[at - 1]) if at else 0), int(ends[at])
