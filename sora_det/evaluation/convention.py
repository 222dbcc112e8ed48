"""What programs that print "average precision" must agree on, as one value.

Coordinates: Detectron2 stores a VOC box as the continuous [xmin - 1, ymin - 1, xmax, ymax]. Its
plain width, xmax - (xmin - 1), is the width of the inclusive pixels xmin..xmax. Continuous IoU on
such boxes is therefore VOC's IoU with its "+1", and `legacy_pixel` stays off for them; it is for
boxes whose last coordinate is the last pixel inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


@dataclass(frozen=True)
class Convention:
    """What two programs must agree on to print the same average precision.

    Attributes:
        interpolation: "11point" is the mean of the best precision at recall 0, 0.1, ... 1 (VOC
            2007); "area" is the area under the monotone precision-recall curve (VOC 2010).
        legacy_pixel: a box's last coordinate is inside it, so widths are x2 - x1 + 1.
        strict: a match needs IoU > threshold, not IoU >= threshold.
        score_decimals: round scores to so many decimals before sorting, None for no rounding.
        box_decimals: round coordinates of detections to so many decimals, None for no rounding.
        voc_file: first add 1 to x1 and y1, as Detectron2 does when it writes its boxes to a file;
            the sums keep the precision given.
        ignored_last: of equally good ground truths a counted one is preferred to an ignored one;
            otherwise, and among equals, the first in the input is taken.
        ties: "ordered" ranks equal scores by image index, then by input order; "grouped" reads
            the curve only where the score changes, which depends on no order at all.
        absent: a class without ground truth is left out of the mean ("skip") or counts as 0.
    """

    interpolation: Literal["11point", "area"] = "11point"
    legacy_pixel: bool = False
    strict: bool = False
    score_decimals: int | None = None
    box_decimals: int | None = None
    voc_file: bool = False
    ignored_last: bool = True
    ties: Literal["ordered", "grouped"] = "ordered"
    absent: Literal["skip", "zero"] = "skip"

    def __post_init__(self) -> None:
        _check_choice("interpolation", self.interpolation, ("11point", "area"))
        _check_choice("ties", self.ties, ("ordered", "grouped"))
        _check_choice("absent", self.absent, ("skip", "zero"))


DIVERSE_WEATHER = Convention()
"""For Detectron2's boxes: 11 points, IoU >= threshold, classes without ground truth skipped."""

REFERENCE = Convention(legacy_pixel=True)
"""The paper's code, whose boxes are 0-based pixels, the last one included."""

DETECTRON2_VOC = Convention(
    voc_file=True,
    legacy_pixel=True,
    strict=True,
    score_decimals=3,
    box_decimals=1,
    ignored_last=False,
    absent="zero",
)
"""`PascalVOCDetectionEvaluator` of Detectron2, for a data set of the year 2007.

Its arithmetic is followed to the bit, as rounded boxes often overlap by exactly a threshold. Only
the order of equal scores differs: there, it depends on NumPy's unstable sort."""
