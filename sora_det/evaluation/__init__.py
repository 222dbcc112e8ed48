"""Scores: average precision, the table of domains, and the run that fills it.

`sora_det.evaluation.run.evaluate` needs Detectron2 and is imported from there; `truth` and
`external` read a benchmark's data. The rest needs NumPy alone.
"""

from .ap import (
    APResult,
    ClassAP,
    Curve,
    Detections,
    GroundTruth,
    Matches,
    average_precision,
    curves,
    match,
    score_matches,
)
from .convention import DETECTRON2_VOC, DIVERSE_WEATHER, REFERENCE, Convention
from .protocol import Protocol, RunInfo, SplitInfo
from .scores import Bootstrap, ClassScore, DomainScore, Interval
from .table import DomainTable

__all__ = [
    "DETECTRON2_VOC",
    "DIVERSE_WEATHER",
    "REFERENCE",
    "APResult",
    "Bootstrap",
    "ClassAP",
    "ClassScore",
    "Convention",
    "Curve",
    "Detections",
    "DomainScore",
    "DomainTable",
    "GroundTruth",
    "Interval",
    "Matches",
    "Protocol",
    "RunInfo",
    "SplitInfo",
    "average_precision",
    "curves",
    "match",
    "score_matches",
]
