"""A table of three domains with given scores."""

from typing import Any

from sora_det.evaluation import ClassScore, DomainScore, DomainTable, RunInfo, SplitInfo
from sora_det.evaluation.scoring import voc_protocol

SPLITS = tuple(
    SplitInfo(d, f"toy/{d}/test", "test.txt", "ab" * 32, 10, 5, 0, "cd" * 32)
    for d in ("clear", "fog", "night")
)
PROTOCOL = voc_protocol(("car",), SPLITS, max_detections=100, score_threshold=0.05)


def table(clear: float, fog: float, night: float | None, **run: Any) -> DomainTable:
    """Return scores of one class in percent: the source clear, the targets fog and night."""
    values = zip(("clear", "fog", "night"), (clear, fog, night), strict=True)
    scores = tuple(
        DomainScore(
            domain=name,
            role="source" if name == "clear" else "target",
            images=10,
            ignored=0,
            classes=(ClassScore("car", 5, ap),),
            ap50=ap,
            coco_ap=None if ap is None else ap / 2,
            coco_ap50=ap,
            coco_ap75=None,
            coco_small=None,
            coco_medium=None,
            coco_large=None,
        )
        for name, ap in values
    )
    return DomainTable("toy", PROTOCOL, scores, RunInfo(**run))
