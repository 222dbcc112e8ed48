"""One file to facts that depend on nothing else, so that they can be kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import cv2
import numpy as np
from PIL import Image

from ...untrusted.text import shown
from ..images import BadImageError, Layout, Size, layout, open_image, to_rgb
from ..voc_xml import annotation_tree, object_box, stated_size

VERSION = 1  # raise it whenever the same file gives other facts

_SIDE = 64  # pixels of the picture that a look is taken of
_LOW = 16  # frequencies of it in either direction
_FLAT = 1.0  # standard deviation in grey values below which a picture shows nothing


@dataclass(frozen=True)
class Picture:
    """An image file.

    Attributes:
        problem: why it cannot be read; "" if it can, and then the others are known.
        digest: SHA-256 of the file, hexadecimal.
        width: as stored, pixels.
        height: likewise.
        orientation: EXIF's, 1 to 8.
        look: its perceptual hash, 256 bits in hexadecimal; "" for an image that shows nothing.
    """

    problem: str
    digest: str = ""
    width: int = 0
    height: int = 0
    orientation: int = 1
    look: str = ""

    @property
    def layout(self) -> Layout:
        return Layout((self.width, self.height), self.orientation)


@dataclass(frozen=True)
class Thing:
    """An annotated object.

    Attributes:
        label: the name of its class in the file.
        box: x0, y0, x1, y1 in pixels, continuous; None if there is none to be read.
        problem: why not.
    """

    label: str
    box: tuple[float, ...] | None
    problem: str = ""


@dataclass(frozen=True)
class Sheet:
    """An annotation file of VOC.

    Attributes:
        problem: why it cannot be read; "" if it can.
        size: width and height that it states, in pixels; None if it does not.
        things: its objects.
    """

    problem: str
    size: Size | None = None
    things: tuple[Thing, ...] = ()


def examine_picture(file: Path) -> Picture:
    """Read an image to its end; a JPEG at a fraction of its size, which finds the same faults."""
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        with open_image(file) as image:
            found = layout(image)
            if image.format == "JPEG" and image.mode in ("L", "RGB"):
                image.draft("L", (2 * _SIDE, 2 * _SIDE))
                grey = np.asarray(image.convert("L"))
            else:
                image.load()
                grey = np.asarray(Image.fromarray(to_rgb(image)).convert("L"))
    except (BadImageError, OSError) as error:
        return Picture(shown(str(error).removeprefix(f"{file}: "))[:300])
    return Picture("", digest, *found.stored, found.orientation, look(grey))


def look(grey: np.ndarray) -> str:
    """Hash what a picture shows: signs of its lowest frequencies but the mean.

    A copy of other size, quality or brightness differs in few of the 256 bits, an image of
    something else in about 128. The hash is known as pHash (Zauner 2010, "Implementation and
    benchmarking of perceptual image hash functions"), here with 16 x 16 frequencies of 64 x 64
    pixels, of which bits are those above the median.

    Args:
        grey: (height, width) uint8.

    Returns:
        64 hexadecimal digits, or "" where grey values hardly vary.
    """
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if float(small.std()) < _FLAT:
        return ""
    low = cv2.dct(small)[:_LOW, :_LOW].ravel()
    low[0] = np.median(low[1:])  # the mean is brightness; its bit is always 0
    return np.packbits(low > low[0]).tobytes().hex()


def examine_sheet(file: Path) -> Sheet:
    """Read an annotation file as `voc_record` does, but for going on after a bad object."""
    try:
        tree = annotation_tree(file)
        return Sheet("", stated_size(tree), tuple(map(_thing, tree.findall("object"))))
    except (OSError, ParseError, ValueError, LookupError) as error:
        return Sheet(shown(str(error) or repr(error))[:300])


def _thing(element: Element) -> Thing:
    label = (element.findtext("name") or "").strip()
    try:
        if not label:
            raise ValueError("an object has no name")
        box = object_box(element)
    except (ValueError, OverflowError) as error:
        return Thing(label, None, shown(str(error))[:300])
    return Thing(label, tuple(box))
