"""From detections and ground truth to the table of domains."""

from __future__ import annotations

import platform
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from .. import __version__
from .ap import (
    APResult,
    Array,
    Matches,
    average_precision,
    match,
    score_matches,
)
from .bootstrap import bootstrap, interval
from .boxes import drop_small
from .calibration import calibration_error
from .coco import MAX_DETECTIONS, coco_scores
from .convention import DIVERSE_WEATHER
from .lrp import optimal_lrp
from .protocol import Protocol, RunInfo, SplitInfo
from .saved import DomainData
from .scores import LRP, Bootstrap, ClassScore, DomainScore, Interval, Remark, mean
from .table import DomainTable

IOU = 0.5


@dataclass(frozen=True)
class Extras:
    """What to compute beside average precision.

    Attributes:
        replicates: of the bootstrap behind the intervals of AP50, 0 for no intervals.
        level: of the intervals, a fraction.
        seed: of the bootstrap.
        lrp: localisation-recall-precision error.
        calibration: D-ECE, the calibration error of the scores.
    """

    replicates: int = 1000
    level: float = 0.95
    seed: int = 0
    lrp: bool = False
    calibration: bool = False

    def __post_init__(self) -> None:
        if self.replicates < 0 or not 0 < self.level < 1:
            raise ValueError(
                "replicates must be 0 or more and level between 0 and 1, got "
                f"{self.replicates} and {self.level}"
            )

    @property
    def bootstrap(self) -> Bootstrap | None:
        return Bootstrap(self.replicates, self.level, self.seed) if self.replicates else None


@dataclass(frozen=True, eq=False)
class ScoredDomain:
    """One domain's score, with the replicates that an interval of a mean over domains needs.

    Attributes:
        score: of the domain.
        replicates: (draws,) mean AP50 in percent, NaN where no class counts; without intervals
            there are none.
    """

    score: DomainScore
    replicates: Array


def voc_protocol(
    classes: Sequence[str],
    splits: Sequence[SplitInfo],
    *,
    max_detections: int | None = None,
    score_threshold: float | None = None,
    min_side: float = 0.0,
) -> Protocol:
    """Return the protocol that `score_domain` follows; None stands for unknown limits."""
    rule = DIVERSE_WEATHER
    return Protocol(
        classes=tuple(classes),
        iou=IOU,
        strict=rule.strict,
        interpolation=rule.interpolation,
        pixel="inclusive" if rule.legacy_pixel else "continuous",
        difficult="ignored",
        clipped=True,
        absent_classes=rule.absent,
        max_detections=max_detections,
        score_threshold=score_threshold,
        coco_max_detections=MAX_DETECTIONS,
        splits=tuple(splits),
        min_side=min_side,
    )


def score_domain(
    data: DomainData,
    *,
    min_side: float = 0.0,
    extras: Extras | None = None,
    remarks: Sequence[Remark] = (),
) -> ScoredDomain:
    """Score one domain.

    Args:
        data: detections cut off at the borders of their images, and all ground truth.
        min_side: as in `Protocol`.
        extras: what else to compute; intervals unless said otherwise.
        remarks: goes into the score as it is.
    """
    extras = extras or Extras()
    classes, images = data.classes, len(data.ids)
    truth = drop_small(data.truth, min_side)
    matches = match(data.detections, truth, num_classes=len(classes), convention=DIVERSE_WEATHER)
    voc = score_matches(matches, iou=IOU)
    coco = coco_scores(data.detections, truth, num_images=images, num_classes=len(classes))
    dropped = len(data.truth) - len(truth)
    draws = _draws(matches, data, extras)  # (draws, classes + 1)
    ends = [_interval(draws[:, i], extras) for i in range(len(classes) + 1)]
    errors = _errors(matches) if extras.lrp else [None] * (len(classes) + 1)
    score = DomainScore(
        domain=data.domain,
        role=data.role,
        images=images,
        ignored=int(truth.ignore.sum()),
        classes=tuple(
            ClassScore(name, c.ground_truth, _percent(c.ap), end if c.ground_truth else None, error)
            for name, c, end, error in zip(classes, voc.classes, ends, errors, strict=False)
        ),
        ap50=_percent(voc.mean),
        coco_ap=coco.ap,
        coco_ap50=coco.ap50,
        coco_ap75=coco.ap75,
        coco_small=coco.small,
        coco_medium=coco.medium,
        coco_large=coco.large,
        interval=ends[-1],
        dropped=dropped,
        ap50_undropped=_percent(_whole(data).mean) if dropped else None,
        lrp=errors[-1],
        d_ece=_percent(calibration_error(matches)) if extras.calibration else None,
        remarks=tuple(remarks),
    )
    return ScoredDomain(score, draws[:, -1])


def make_table(
    benchmark: str,
    protocol: Protocol,
    scored: Sequence[ScoredDomain],
    *,
    run: RunInfo | None = None,
    extras: Extras | None = None,
) -> DomainTable:
    """Join the domains, the source first; the mean of the targets gets an interval too.

    Domains are drawn independently of each other.
    """
    extras = extras or Extras()
    targets = [s.replicates for s in scored if s.score.role == "target"]
    run = run or RunInfo()
    return DomainTable(
        benchmark=benchmark,
        protocol=protocol,
        scores=tuple(s.score for s in scored),
        run=replace(run, sora_det=__version__, python=platform.python_version()),
        bootstrap=extras.bootstrap,
        target_interval=_interval(_mean(targets), extras) if targets else None,
    )


def _mean(domains: Sequence[Array]) -> Array:
    """Mean over the domains of every draw; those where it does not exist are left out."""
    draws = np.array(domains)  # (domains, draws)
    known = np.isfinite(draws)
    count = known.sum(axis=0)
    total = np.where(known, draws, 0.0).sum(axis=0)
    found: Array = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return found


def _errors(matches: Matches) -> list[LRP | None]:
    """Return the optimal error of every class and, last, their mean."""
    found: list[LRP | None] = [
        None
        if one is None
        else LRP(
            error=100.0 * one.error,
            localisation=_percent(one.localisation),
            false_positives=_percent(one.false_positives),
            false_negatives=100.0 * one.false_negatives,
        )
        for one in optimal_lrp(matches, iou=IOU)
    ]
    known = [one for one in found if one is not None]
    if not known:
        return [*found, None]
    parts = {f.name: mean(getattr(one, f.name) for one in known) for f in fields(LRP)}
    return [*found, LRP(parts.pop("error") or 0.0, **parts)]


def _whole(data: DomainData) -> APResult:
    return average_precision(
        data.detections,
        data.truth,
        num_classes=len(data.classes),
        iou=IOU,
        convention=DIVERSE_WEATHER,
    )


def _draws(matches: Matches, data: DomainData, extras: Extras) -> Array:
    """Replicates (draws, classes + 1) of AP50 in percent, the mean over classes last.

    Domains are drawn apart from each other, and for all models alike.
    """
    if not extras.replicates:
        return np.empty((0, matches.num_classes + 1))
    return 100.0 * bootstrap(
        matches,
        num_images=len(data.ids),
        replicates=extras.replicates,
        seed=extras.seed + zlib.crc32(data.domain.encode()),
        iou=IOU,
    )


def _interval(draws: Array, extras: Extras) -> Interval | None:
    ends = interval(draws, level=extras.level)
    return None if ends is None else Interval(*ends)


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else fraction * 100.0
