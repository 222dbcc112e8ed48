"""What both annotation formats need: a tally of what had to be left out."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..untrusted.text import shown

logger = logging.getLogger(__name__)

# One file may always be missing; more only while they are at most this share of the split.
MISSING_SHARE = 0.01

_SHOWN = 5  # names in a message
_FARTHEST = 1e7  # pixels from the corner of an image; no image is a hundredth as wide


@dataclass
class Tally:
    """Counts, over one split, of what is not in its records.

    Attributes:
        lenient: leave out what is missing or malformed, however much, as long as something is left.
        missing: images that are missing or have no annotation file.
        malformed: what is wrong with images or annotation files that were left out.
        unknown: objects by the names of classes that the benchmark does not have.
        empty_boxes: boxes without area.
    """

    lenient: bool = False
    missing: list[str] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    empty_boxes: int = 0

    def leave_out(self, error: ValueError) -> None:
        """Count an image whose annotation cannot be used, or raise `error` again."""
        if not self.lenient:
            raise error
        self.malformed.append(str(error))

    def report(self, where: str, total: int) -> None:
        """Log what was left out, one line per kind.

        Args:
            where: the split's file, for the messages.
            total: images that the split names.

        Raises:
            FileNotFoundError: if too many images or annotation files are missing.
            ValueError: if nothing is left.
        """
        self._check_missing(where, total)
        for problem in self.malformed:
            logger.warning("%s: skipped an image: %s", where, problem)
        if len(self.missing) + len(self.malformed) == total:
            raise ValueError(f"{where}: none of its {total} images can be used, see the log")
        if self.unknown:
            most = self.unknown.most_common(20)
            counts = ", ".join(f"{shown(name[:80])} {n}" for name, n in most)
            logger.info("%s: skipped objects of other classes: %s", where, counts)
        if self.empty_boxes:
            logger.warning("%s: skipped %d boxes without area", where, self.empty_boxes)

    def _check_missing(self, where: str, total: int) -> None:
        if not self.missing:
            return
        count = len(self.missing)
        names = ", ".join(map(shown, self.missing[:_SHOWN])) + (", …" if count > _SHOWN else "")
        too_many = count > 1 and count > MISSING_SHARE * total and not self.lenient
        if count == total or too_many:
            raise FileNotFoundError(
                f"{where}: {count} of {total} images are missing or have no annotation file "
                f"({names}): check that the data are complete and the folders right"
            )
        logger.warning("%s: skipped %d of %d images, missing: %s", where, count, total, names)


def check_pixels(values: Iterable[float], what: str) -> None:
    """Coordinates and sizes must be such as images have, so that areas and sums of them exist.

    Raises:
        ValueError: one of `values` is not finite, or beyond any image.
    """
    for value in values:
        if not -_FARTHEST <= value <= _FARTHEST:  # NaN neither
            raise ValueError(
                f"{what} must hold finite numbers within ±{_FARTHEST:g}, got {str(value)[:40]}"
            )


class Places:
    """Knows whether a file is where its name says, once links are followed.

    Args:
        allowed: folders that a link may lead into. They may be links themselves: how a benchmark's
            folders lie on the disks is its owner's affair, but the names in its annotations are not
            to lead anywhere else.
    """

    def __init__(self, *allowed: Path) -> None:
        self.allowed = tuple(os.path.realpath(folder) for folder in allowed)
        self.inside: dict[Path, bool] = {}  # by folder, each looked at once

    def check(self, file: Path) -> None:
        """Raise ValueError if `file` is elsewhere."""
        if file.parent not in self.inside:
            self.inside[file.parent] = self.holds(file.parent)
        if not self.inside[file.parent] or (file.is_symlink() and not self.holds(file)):
            raise ValueError(
                f"{file} is a link out of {' and '.join(self.allowed)}: give the benchmark a root "
                "that holds both"
            )

    def holds(self, path: Path) -> bool:
        """Whether a path is below the allowed folders, once links are followed."""
        real = os.path.realpath(path)
        return any(real == folder or real.startswith(folder + os.sep) for folder in self.allowed)
