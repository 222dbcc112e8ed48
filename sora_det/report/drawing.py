"""Detections drawn on images and films, with OpenCV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from ..evaluation.ap import Array, Detections

SMALLEST = 480  # pixels of the longer side; smaller images are enlarged, for their labels
FONT = cv2.FONT_HERSHEY_SIMPLEX
WRITTEN = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
COLOURS = (  # RGB: Okabe and Ito's, and others between them
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (148, 103, 60),
    (160, 220, 90),
    (120, 80, 220),
)

Colour = tuple[int, int, int]


def colour(label: int) -> Colour:
    """RGB of a class; ten classes have different ones."""
    return COLOURS[label % len(COLOURS)]


def draw(image: Array, found: Detections, classes: Sequence[str], *, scores: bool = True) -> Array:
    """Draw boxes with their names; the best lie on top.

    Args:
        image: (height, width, 3), uint8 RGB; it is not changed. Small ones are enlarged by a whole
            number.
        found: boxes in pixels of `image`; those without area are left out.
        classes: names by label; "" for no name.
        scores: write them too.

    Returns:
        RGB of the same size, or of a multiple.
    """
    kept = np.flatnonzero((found.box[:, 2:] > found.box[:, :2]).all(axis=1))
    factor = max(1, -(-SMALLEST // max(image.shape[:2])))
    drawn = np.ascontiguousarray(np.repeat(np.repeat(image, factor, axis=0), factor, axis=1))
    width = max(2, round(max(drawn.shape[:2]) / 500))
    order = kept[np.argsort(found.score[kept], kind="stable")]  # the best last
    boxes = np.round(found.box * factor).astype(int)
    for row in order:
        _box(drawn, boxes[row], colour(int(found.label[row])), width)
    taken: list[tuple[int, int, int, int]] = []
    for row in order[::-1]:
        label = int(found.label[row])
        name = classes[label] if label < len(classes) else ""
        text = " ".join([name] * bool(name) + [f"{found.score[row]:.2f}"] * scores)
        if text:
            taken.append(_label(drawn, boxes[row], text, colour(label), width, taken))
    return drawn


class Album:
    """A folder of drawn pictures and films, under the names of what they show.

    Args:
        folder: made if need be.
        classes: names by label.
    """

    def __init__(self, folder: str | Path, classes: Sequence[str]) -> None:
        self.folder, self.classes = Path(folder), tuple(classes)
        self.used: set[Path] = set()

    def picture(self, name: str, image: Array, found: Detections) -> None:
        """Draw and write an image (height, width, 3), uint8 RGB; `name` may have folders.

        Raises:
            OSError: it cannot be written.
        """
        known = Path(name).suffix.lower() in WRITTEN
        path = self._free(name if known else f"{name}.png")
        drawn = cv2.cvtColor(draw(image, found, self.classes), cv2.COLOR_RGB2BGR)
        whole, data = cv2.imencode(path.suffix, drawn)
        if not whole:
            raise OSError(f"OpenCV cannot write {path}")
        path.write_bytes(data.tobytes())

    @contextmanager
    def film(self, name: str, rate: float) -> Iterator[Callable[[Array, Detections], None]]:
        """Write a film (MPEG-4) frame by frame, by calling what this context gives.

        Args:
            name: of the film shown.
            rate: frames per second.

        Raises:
            OSError: it cannot be written.
        """
        path = self._free(name if Path(name).suffix.lower() == ".mp4" else f"{name}.mp4")
        writers: list[cv2.VideoWriter] = []

        def add(image: Array, found: Detections) -> None:
            drawn = cv2.cvtColor(draw(image, found, self.classes), cv2.COLOR_RGB2BGR)
            height, width = (side // 2 * 2 for side in drawn.shape[:2])  # the codec's demand
            if not writers:
                code = cv2.VideoWriter.fourcc(*"mp4v")
                writers.append(cv2.VideoWriter(str(path), code, rate, (width, height)))
                if not writers[0].isOpened():
                    raise OSError(f"OpenCV cannot write the film {path}")
            writers[0].write(np.ascontiguousarray(drawn[:height, :width]))

        try:
            yield add
        finally:
            for writer in writers:
                writer.release()

    def _free(self, name: str) -> Path:
        """Return a path that no earlier picture has."""
        wanted = self.folder / name
        path, number = wanted, 2
        while path in self.used:
            path = wanted.with_name(f"{wanted.stem}_{number}{wanted.suffix}")
            number += 1
        self.used.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _box(drawn: Array, box: Array, ink: Colour, width: int) -> None:
    corners = (int(box[0]), int(box[1])), (int(box[2]), int(box[3]))
    cv2.rectangle(drawn, *corners, (0, 0, 0), width + 2)
    cv2.rectangle(drawn, *corners, ink, width)


def _label(
    drawn: Array,
    box: Array,
    text: str,
    ink: Colour,
    width: int,
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int, int, int]:
    """Write a name above its box, or else below or within it; return where."""
    image_height, image_width = drawn.shape[:2]
    scale = 0.28 * width
    text = text.encode("ascii", "replace").decode()  # OpenCV's font has no other letters
    (long, high), below = cv2.getTextSize(text, FONT, scale, max(1, width // 2))
    long, high = long + 2 * width, high + below + 2 * width
    left = int(np.clip(box[0], 0, max(image_width - long, 0)))
    tops = [box[1] - high, box[3], box[1], *range(0, image_height - high, high)]
    places = [(left, int(top), left + long, int(top) + high) for top in tops]
    inside = [p for p in places if p[1] >= 0 and p[3] <= image_height] or places[:1]
    free = [p for p in inside if not any(_meet(p, other) for other in taken)] or inside
    place = free[0]
    cv2.rectangle(drawn, place[:2], place[2:], ink, -1)
    dark = np.dot(ink, (0.299, 0.587, 0.114)) < 140
    at = place[0] + width, place[3] - below - width
    pen = (255, 255, 255) if dark else (0, 0, 0)
    cv2.putText(drawn, text, at, FONT, scale, pen, max(1, width // 2), cv2.LINE_AA)
    return place


def _meet(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
