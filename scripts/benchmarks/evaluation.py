"""Scoring detections, beside Detectron2's VOC evaluator and pycocotools."""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import PascalVOCDetectionEvaluator

from sora_det.evaluation import (
    DETECTRON2_VOC,
    Convention,
    Detections,
    GroundTruth,
    match,
    score_matches,
)
from sora_det.evaluation.coco import coco_ap

from .coco_objects import pycocotools_ap
from .full_evaluation import LEVELS
from .results import Result
from .synthetic import CLASSES, DIVERSE_WEATHER, draw, sample
from .timing import in_turns, ratio
from .voc_files import batches, registered

ROOT = Path(__file__).resolve().parents[2]


def evaluation(repetitions: int, *, images: int = 1500, share: float = 1.0) -> Result:
    """Score a sample in three ways by two metrics, and all of Diverse-Weather's size by ours.

    Detectron2 gets its detections as `Instances` and its ground truth as files, of which it keeps
    the parsed ones from the first turn, that does not count.

    Args:
        repetitions: of every way.
        images: of the sample, drawn like night-sunny.
        share: of Diverse-Weather's images that ours scores alone, with 1000 replicates.
    """
    domain = sample(DIVERSE_WEATHER[1], images)
    found, truth = draw(domain)
    sizes = {"num_images": domain.images, "num_classes": len(CLASSES)}
    with (
        tempfile.TemporaryDirectory() as place,
        registered(Path(place), truth, CLASSES, images=images) as name,
    ):
        evaluator, outputs = PascalVOCDetectionEvaluator(name), batches(found, images)
        timings = in_turns(
            {
                "ours, VOC at ten thresholds": lambda: voc(found, truth, DETECTRON2_VOC),
                "PascalVOCDetectionEvaluator": lambda: theirs(evaluator, outputs),
                "ours, COCO": lambda: coco_ap(found, truth, **sizes),
                "pycocotools": lambda: pycocotools_ap(found, truth, **sizes),
            },
            repetitions,
        )
        wanted = theirs(evaluator, outputs)
    ours, detectron2, ours_coco, pycocotools = timings
    full = whole(share, repetitions)
    scale = full["images"] / images
    coco = coco_ap(found, truth, **sizes) - pycocotools_ap(found, truth, **sizes)
    return Result(
        "evaluation",
        f"{images} images with {len(found) // images} detections each in {len(CLASSES)} classes, "
        f"{len(truth)} boxes",
        timings,
        [ratio(detectron2, ours), ratio(pycocotools, ours_coco)],
        {
            **described(full),
            "PascalVOCDetectionEvaluator / ours, VOC, on as many images (its time extrapolated)":
                f"{scale * detectron2.median:.0f} s / {full['voc']:.2f} s = "
                f"{scale * detectron2.median / full['voc']:.0f}",
            "largest difference of AP, AP50, AP75 to PascalVOCDetectionEvaluator, in points":
                f"{difference(voc(found, truth, DETECTRON2_VOC), wanted):.1e}; "
                f"{difference(in_its_order(found, truth), wanted):.1e} with equal scores in the "
                "order that its sort gives them",
            "largest difference of AP to pycocotools, by class, size and threshold, in points":
                f"{100 * np.nanmax(np.abs(coco)):.1e}",
        },
    )  # fmt: skip


def voc(found: Detections, truth: GroundTruth, convention: Convention) -> dict[str, float]:
    """Return AP, AP50 and AP75 in percent."""
    matches = match(found, truth, num_classes=len(CLASSES), convention=convention)
    ap = [100 * (score_matches(matches, iou=level).mean or 0.0) for level in LEVELS]
    return {"AP": float(np.mean(ap)), "AP50": ap[0], "AP75": ap[5]}


def theirs(evaluator: PascalVOCDetectionEvaluator, outputs: list[Any]) -> dict[str, float]:
    evaluator.reset()
    for image, output in outputs:
        evaluator.process(image, output)
    found: dict[str, float] = evaluator.evaluate()["bbox"]
    return found


def in_its_order(found: Detections, truth: GroundTruth) -> dict[str, float]:
    """Return `voc` with equal scores in the order of NumPy's unstable sort, as Detectron2's."""
    rank = np.empty(len(found))
    for label in range(len(CLASSES)):
        rows = np.flatnonzero(found.label == label)
        order = np.argsort(-np.round(found.score[rows].astype(float), 3))
        rank[rows[order]] = np.arange(len(rows))
    convention = replace(DETECTRON2_VOC, score_decimals=None)
    return voc(replace(found, score=-rank), truth, convention)


def difference(ours: dict[str, float], wanted: dict[str, float]) -> float:
    return max(abs(ours[key] - wanted[key]) for key in ours)


def whole(share: float, repetitions: int) -> dict[str, Any]:
    """Run ours at full size in a process of its own, whose memory is its alone."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmarks.full_evaluation", f"--share={share}",
         f"--repetitions={repetitions}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    numbers: dict[str, Any] = json.loads(done.stdout)
    return numbers


def described(full: dict[str, Any]) -> dict[str, str]:
    size = f"{full['images']} images, {full['detections']} detections"
    facts = {
        f"ours, VOC at ten thresholds, {size}": f"{full['voc']:.2f} s",
        f"ours, COCO, {size}": f"{full['coco']:.2f} s",
        f"bootstrap, 1000 replicates of {full['bootstrap images']} images":
            f"{full['bootstrap']:.1f} s",
    }  # fmt: skip
    if full["peak"] is not None:
        facts["peak memory of that process"] = (
            f"{full['peak voc'] / 1e6:.0f} MB by then for VOC, {full['peak'] / 1e6:.0f} MB with "
            f"COCO and bootstrap; {full['peak before'] / 1e6:.0f} MB before scoring, of which "
            f"{full['data'] / 1e6:.0f} MB are detections and boxes"
        )
    return facts
