"""Image files, opened only where their format and their size are what training has a use for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

# Of the others that Pillow knows, one starts a program: Ghostscript, for EPS whatever its ending.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
MOST_PIXELS = 2**27  # 400 MB as RGB; compressed, an empty one of them has a few kilobytes


@contextmanager
def open_picture(file: str | Path) -> Iterator[Image.Image]:
    """Open an image, of which only the header is read.

    Raises:
        ValueError: it has more than `MOST_PIXELS`.
        Exception: whatever else Pillow raises for damaged files and other formats.
    """
    with Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(
                f"it has {image.width}x{image.height} pixels, and the most is {MOST_PIXELS:,}: "
                "make it smaller"
            )
        yield image
