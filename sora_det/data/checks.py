"""What both annotation formats need: image headers, and a tally of what had to be left out."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

logger = logging.getLogger(__name__)

# One file may always be missing; more only while they are at most this share of the split.
MISSING_SHARE = 0.01

_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 turn the image by a quarter
_SHOWN = 5  # names in a message


@dataclass
class Tally:
    """Counts, over one split, of what is not in its records."""

    missing: list[str] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    empty_boxes: int = 0

    def report(self, where: str, total: int) -> None:
        """Log what was left out, one line per kind.

        Args:
            where: the split's file, for the messages.
            total: images that the split names.

        Raises:
            FileNotFoundError: if too many images or annotation files are missing.
        """
        self._check_missing(where, total)
        if self.unknown:
            counts = ", ".join(f"{name} {n}" for name, n in self.unknown.most_common(20))
            logger.info("%s: skipped objects of other classes: %s", where, counts)
        if self.empty_boxes:
            logger.warning("%s: skipped %d boxes without area", where, self.empty_boxes)

    def _check_missing(self, where: str, total: int) -> None:
        if not self.missing:
            return
        count = len(self.missing)
        names = ", ".join(self.missing[:_SHOWN]) + (", …" if count > _SHOWN else "")
        if count == total or (count > 1 and count > MISSING_SHARE * total):
            raise FileNotFoundError(
                f"{where}: {count} of {total} images are missing or have no annotation file "
                f"({names}): check that the data are complete and the folders right"
            )
        logger.warning("%s: skipped %d of %d images, missing: %s", where, count, total, names)


def image_size(file: Path) -> tuple[int, int]:
    """Width and height of an image in pixels, as it is shown, from its header alone.

    Raises:
        ValueError: if the file is no image.
    """
    try:
        with Image.open(file) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file}: not a readable image: {error}") from error
    return (height, width) if turned else (width, height)
