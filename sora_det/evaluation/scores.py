"""Scores of one domain as plain values: percent (0..100), None for a score that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Metric = Literal[
    "ap50", "coco_ap", "coco_ap50", "coco_ap75", "coco_small", "coco_medium", "coco_large"
]
METRICS: tuple[Metric, ...] = get_args(Metric)
NOTHING = 1e-9  # percent; what is below is nothing to divide by


@dataclass(frozen=True)
class Interval:
    """A confidence interval in percent."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half of its width, in points."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Bootstrap:
    """How intervals were made: images drawn with replacement, percentiles of the scores.

    Attributes:
        replicates: number of draws.
        level: share of the replicates that lies within the interval, a fraction.
        seed: of the draws.
    """

    replicates: int
    level: float
    seed: int


@dataclass(frozen=True)
class LRP:
    """Localisation-recall-precision error at the best score threshold (arXiv 1807.01696), percent.

    Attributes:
        error: the whole, 0 for perfect detections, 100 for none; the components do not add up to
            it.
        localisation: mean of 1 - IoU of the found boxes.
        false_positives: share of the detections that are wrong (1 - precision).
        false_negatives: share of the boxes that are missed (1 - recall).
    """

    error: float
    localisation: float | None
    false_positives: float | None
    false_negatives: float | None


@dataclass(frozen=True)
class ClassScore:
    """One class in one domain.

    Attributes:
        name: class name.
        boxes: counted ground-truth boxes, ignored and dropped ones left out.
        ap50: VOC average precision in percent, None without ground truth.
        interval: of `ap50`, if it was asked for.
        lrp: if it was asked for and there is ground truth.
    """

    name: str
    boxes: int
    ap50: float | None
    interval: Interval | None = None
    lrp: LRP | None = None

    @property
    def doubt(self) -> float | None:
        """Points to either side, None without an interval: half of it, or what one box is worth.

        Draws that score alike, as where every box is found, make an interval of nothing; with few
        boxes that is no certainty.
        """
        return max(self.interval.half, 100.0 / max(self.boxes, 1)) if self.interval else None


@dataclass(frozen=True)
class Remark:
    """Something odd about the detections, and how many of them it concerns.

    Attributes:
        what: in words that follow a count, such as "boxes reached beyond their image".
        count: how many.
    """

    what: str
    count: int


@dataclass(frozen=True)
class DomainScore:
    """One domain.

    Attributes:
        domain: its name in the benchmark.
        role: "source" (trained on) or "target" (never seen).
        images: number of images evaluated.
        ignored: boxes that count neither way (VOC's difficult, COCO's crowd), over all classes.
        classes: one entry per class, in the protocol's order.
        ap50: mean of the classes' AP50 in percent.
        coco_ap: mean over IoU 0.50 to 0.95 and classes; coco_ap50 and coco_ap75 at one IoU;
            coco_small, coco_medium and coco_large by box area in the original image (limits 32²
            and 96² pixels). Percent.
        interval: of `ap50`, if it was asked for.
        dropped: ground-truth boxes left out because a side is below the protocol's `min_side`.
        ap50_undropped: `ap50` if they are not left out; None if none was.
        lrp: mean over classes, if it was asked for.
        d_ece: expected calibration error of the scores, in points, if it was asked for.
        remarks: what was odd about the detections.
    """

    domain: str
    role: Literal["source", "target"]
    images: int
    ignored: int
    classes: tuple[ClassScore, ...]
    ap50: float | None
    coco_ap: float | None
    coco_ap50: float | None
    coco_ap75: float | None
    coco_small: float | None
    coco_medium: float | None
    coco_large: float | None
    interval: Interval | None = None
    dropped: int = 0
    ap50_undropped: float | None = None
    lrp: LRP | None = None
    d_ece: float | None = None
    remarks: tuple[Remark, ...] = ()

    @property
    def boxes(self) -> int:
        """Counted ground-truth boxes over all classes."""
        return sum(c.boxes for c in self.classes)

    def metric(self, name: Metric) -> float | None:
        """Return the score called `name`.

        Raises:
            ValueError: no such metric.
        """
        if name not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {name!r}")
        value: float | None = getattr(self, name)
        return value


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that exist, None if none does."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def difference(a: float | None, b: float | None) -> float | None:
    """a - b, None if either is missing."""
    return None if a is None or b is None else a - b


def share(part: float | None, whole: float | None) -> float | None:
    """`part` in percent of `whole`, None if either is missing or `whole` is nothing."""
    return None if part is None or whole is None or whole < NOTHING else 100.0 * part / whole
