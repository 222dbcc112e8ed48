"""Average precision against the paper's metric, whose numbers are on file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from sora_det.evaluation import (
    DIVERSE_WEATHER,
    REFERENCE,
    Detections,
    GroundTruth,
    average_precision,
)

FILE = Path(__file__).parents[1] / "data" / "parity" / "voc_ap.json"
Points = Literal["11point", "area"]


@pytest.fixture(scope="module")
def paper() -> dict[str, Any]:
    return json.loads(FILE.read_text())


def arrays(case: dict[str, Any]) -> tuple[Detections, GroundTruth]:
    found = [
        (i, label, row)
        for i, image in enumerate(case["dets"])
        for label, rows in enumerate(image)
        for row in rows
    ]
    wanted = [
        (i, label, box, ignore)
        for i, image in enumerate(case["gts"])
        for ignore, end in ((False, ""), (True, "_ignore"))
        for label, box in zip(image["labels" + end], image["bboxes" + end], strict=True)
    ]
    return (
        Detections(
            image=np.array([i for i, _, _ in found]),
            label=np.array([label for _, label, _ in found]),
            score=np.array([row[4] for _, _, row in found]),
            box=np.array([row[:4] for _, _, row in found]),
        ),
        GroundTruth(
            image=np.array([w[0] for w in wanted]),
            label=np.array([w[1] for w in wanted]),
            box=np.array([w[2] for w in wanted]),
            ignore=np.array([w[3] for w in wanted]),
        ),
    )


@pytest.mark.parametrize(("points", "key"), [("11point", "11points"), ("area", "area")])
def test_equals_the_papers_metric(paper: dict[str, Any], points: Points, key: str) -> None:
    detections, truth = arrays(paper)
    expected = paper["expected"][key]

    result = average_precision(
        detections,
        truth,
        num_classes=len(paper["classes"]),
        convention=replace(REFERENCE, interpolation=points),
    )

    assert result.mean == pytest.approx(expected["mAP"], abs=1e-6)
    for got, want in zip(result.classes, expected["per_class"], strict=True):
        assert (got.ground_truth, got.detections) == (want["num_gts"], want["num_dets"])
        if want["num_gts"]:
            assert got.ap == pytest.approx(want["ap"], abs=1e-6)
        else:
            assert got.ap is None


def test_our_boxes_score_the_same_without_the_extra_pixel(paper: dict[str, Any]) -> None:
    detections, truth = arrays(paper)
    exclusive = np.array([0.0, 0.0, 1.0, 1.0])  # last pixel inside -> first pixel outside

    result = average_precision(
        replace(detections, box=detections.box + exclusive),
        replace(truth, box=truth.box + exclusive),
        num_classes=len(paper["classes"]),
        convention=DIVERSE_WEATHER,
    )

    assert result.mean == pytest.approx(paper["expected"]["11points"]["mAP"], abs=1e-6)
