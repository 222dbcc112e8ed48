"""Images and videos that belong to no benchmark: found in folders, videos read as RGB."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
RATE = 25.0  # frames a second where a video does not say


@dataclass(frozen=True)
class Media:
    """An image or a video.

    Attributes:
        file: where it is.
        name: below the folder that was given, with "/" between folders; no two are the same.
        video: it has frames.
    """

    file: Path
    name: str
    video: bool


def find_media(inputs: Iterable[str | Path], *, outside: Path | None = None) -> list[Media]:
    """List files, and the images and videos in folders and their subfolders, in order of name.

    Hidden files and folders are passed over, a file given twice is taken once. Where files of
    several folders have the same name, all names begin at the folder that they have in common.

    Args:
        inputs: files and folders.
        outside: a folder not to look into, such as that of earlier results.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: a file that by its ending is neither image nor video, or none at all.
    """
    found: dict[Path, str] = {}
    for given in map(Path, inputs):
        if given.is_dir():
            for file in _below(given, outside):
                found.setdefault(file.resolve(), file.relative_to(given).as_posix())
        elif not given.exists():
            raise FileNotFoundError(f"no file or folder {given}")
        elif given.suffix.lower() not in IMAGES + VIDEOS:
            known = " ".join(IMAGES + VIDEOS)
            raise ValueError(f"{given} is neither an image nor a video by its ending: {known}")
        else:
            found.setdefault(given.resolve(), given.name)
    if not found:
        raise ValueError(f"no image and no video in {', '.join(map(str, inputs))}")
    if len(set(found.values())) < len(found):
        start = os.path.commonpath([file.parent for file in found])
        found = {file: file.relative_to(start).as_posix() for file in found}
    return [Media(file, name, file.suffix.lower() in VIDEOS) for file, name in found.items()]


def _below(folder: Path, outside: Path | None) -> list[Path]:
    """Images and videos below a folder, numbers in their names in the order of their values."""
    kept = []
    for place, folders, files in os.walk(folder):
        own = Path(place)
        folders[:] = [f for f in folders if f[0] != "." and not _same(own / f, outside)]
        kept += [
            own / f for f in files if f[0] != "." and Path(f).suffix.lower() in IMAGES + VIDEOS
        ]
    return sorted(kept)


def _same(folder: Path, other: Path | None) -> bool:
    return other is not None and folder.resolve() == other.resolve()


@dataclass(frozen=True)
class Film:
    """A video that is open.

    Attributes:
        rate: frames a second.
        length: number of frames as the file states it, which may be wrong; None if it does not.
        frames: (height, width, 3) uint8, RGB.
    """

    rate: float
    length: int | None
    frames: Iterator[np.ndarray]


@contextmanager
def open_film(file: str | Path) -> Iterator[Film]:
    """Open a video.

    Raises:
        ValueError: (also from `frames`) it cannot be read, or has no frame.
    """
    capture = cv2.VideoCapture(str(file))
    try:
        if not capture.isOpened():
            raise ValueError(f"{file}: not a readable video")
        rate = capture.get(cv2.CAP_PROP_FPS)
        length = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        yield Film(
            rate=rate if math.isfinite(rate) and rate > 0 else RATE,
            length=length if length > 0 else None,
            frames=_frames(capture, file),
        )
    finally:
        capture.release()


def _frames(capture: cv2.VideoCapture, file: str | Path) -> Iterator[np.ndarray]:
    count = 0
    while True:
        going, frame = capture.read()
        if not going:
            break
        count += 1
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    if not count:
        raise ValueError(f"{file}: a video without a frame that can be read")
