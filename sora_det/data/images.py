"""Images of every kind as RGB: the one way in which this project reads them.

Colours. Grey becomes three equal channels; palettes, CMYK and whatever else Pillow converts become
RGB, without their ICC profiles. An alpha channel is left out: the colours stay as they are stored,
also where they are transparent. More than 8 bits are brought to 0..255, see `read_image`. Of
several frames the first one counts.

Orientation. A camera may store an upright photograph lying, and say in EXIF how to turn it. Whoever
annotates it sees it turned or not, depending on the tool; boxes are right in one of the two alone.
The size in the annotation tells which, where a quarter turn exchanges width and height. Where it
cannot tell (no size, a square, a half turn, a mirror image) an image is read as it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..untrusted.pictures import open_picture
from ..untrusted.text import shown

Size = tuple[int, int]  # width and height in pixels

_ORIENTATION = 0x0112  # EXIF tag, 1 to 8
_WIDTH, _HEIGHT = 0x0100, 0x0101  # TIFF tags

# What brings an image from how it is stored to how it is shown, by EXIF's orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACK = {6: 8, 8: 6}  # the other turns undo themselves


class BadImageError(ValueError):
    """An image that cannot be read, or has another size than its annotation says."""

    def __init__(self, message: str) -> None:
        # A DataLoader raises anew what a worker has raised, behind the worker's whole traceback.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].rstrip())


@dataclass(frozen=True)
class Layout:
    """How an image lies in its file.

    Attributes:
        stored: its size as stored.
        orientation: EXIF's number, 1 to 8; 1 is upright.
    """

    stored: Size
    orientation: int

    @property
    def shown(self) -> Size:
        """Its size when turned as EXIF says."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored

    @property
    def ambiguous(self) -> bool:
        """It is to be turned or mirrored, and the size of its annotation cannot tell whether."""
        return self.orientation > 1 and self.stored == self.shown


def read_image(file: str | Path, size: Size | None = None) -> np.ndarray:
    """Read an image as (height, width, 3) uint8, RGB.

    White is 65535 for grey values of 16 bits. Those of 32 bits and of floating point do not say
    what is white: 65535 for integers; for floats the least of 1, 255 and 65535 that none exceeds.
    Where some exceed 65535 it is the largest value of the image.

    Args:
        file: of a format that Pillow reads.
        size: as the annotation says, which decides whether the image is turned as EXIF says; None
            turns it.

    Raises:
        BadImageError: it is missing, damaged, no image, or of neither size.
    """
    with open_image(file) as image:
        found = layout(image)
        if size not in (None, found.shown, found.stored):
            stored, wanted = ("x".join(map(str, one)) for one in (found.stored, size or ()))
            raise BadImageError(f"{file}: has {stored} pixels, but its annotation says {wanted}")
        image.load()
        left = _orientation(image)  # Pillow turns some TIFFs while it loads them
        if size in (None, found.shown):
            method = _TURNS.get(left)
        elif left == found.orientation:
            method = None
        else:
            method = _TURNS.get(_BACK.get(found.orientation, found.orientation))
        return to_rgb(image if method is None else image.transpose(method))


def image_size(file: str | Path) -> Size:
    """Width and height of an image in pixels as it is shown, from its header alone.

    Raises:
        BadImageError: it is missing, or no image.
    """
    with open_image(file) as image:
        return layout(image).shown


@contextmanager
def open_image(file: str | Path) -> Iterator[Image.Image]:
    """Open an image; whatever goes wrong with it, also in the block, is a `BadImageError`."""
    try:
        with open_picture(file) as image:
            yield image
    except BadImageError:
        raise
    except Exception as error:  # Pillow's readers raise what their parsers do, of many types
        raise BadImageError(shown(f"{file}: not a readable image: {error}")) from error


def layout(image: Image.Image) -> Layout:
    """Say how an image lies in its file, before its pixels are loaded."""
    stored = image.size
    if image.format == "TIFF":  # the one kind whose size Pillow may give as it is shown
        tags = getattr(image, "tag_v2", {})
        stored = (int(tags.get(_WIDTH, stored[0])), int(tags.get(_HEIGHT, stored[1])))
    return Layout(stored, _orientation(image))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing, and the image may be whole
        return 1
    return value if value in _TURNS else 1


def to_rgb(image: Image.Image) -> np.ndarray:
    """Convert an image of any mode to (height, width, 3) uint8, RGB, as `read_image` says."""
    if image.mode == "P":
        image = image.convert("RGBA")  # first, or Pillow warns of transparent colours
    if not image.mode.startswith(("I", "F")):  # 8 bits a channel or less
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    white = 65535.0
    if not image.mode.startswith("I;16"):
        top = float(values.max(initial=0.0))
        whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
        white = next((one for one in whites if top <= one), top)
    grey = np.clip(values / white, 0.0, 1.0) * 255.0
    return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)
