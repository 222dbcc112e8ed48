"""Average precision against the paper's metric (numbers on file) and Detectron2's VOC code."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from detectron2.evaluation.pascal_voc_evaluation import voc_eval

from sora_det.evaluation import (
    DETECTRON2_VOC,
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


OBJECT = """<object><name>car</name><pose>Left</pose><truncated>0</truncated>
<difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>
</bndbox></object>"""


def random_case(seed: int, images: int = 12) -> tuple[Detections, GroundTruth]:
    """Whole-numbered ground truth, detections near it; no two scores equal to three digits."""
    rng = np.random.default_rng(seed)
    image = np.sort(rng.integers(0, images, 60))
    corner = rng.integers(0, 150, (60, 2))
    box = np.concatenate([corner, corner + rng.integers(8, 80, (60, 2))], axis=1)
    near = rng.integers(0, 60, 200)
    moved = box[near] + rng.normal(0, 5, (200, 4))
    moved[150:] = np.roll(moved[150:], 1, axis=0)  # and some that miss
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    score = rng.permutation(np.arange(1, 999))[:200] / 1000 + rng.uniform(-4e-4, 4e-4, 200)
    return (
        Detections(
            image=image[near],
            label=np.zeros(200, dtype=int),
            score=score.astype(np.float32),
            box=moved.astype(np.float32),
        ),
        GroundTruth(
            image=image, label=np.zeros(60, dtype=int), box=box, ignore=rng.random(60) < 0.2
        ),
    )


def write_voc(folder: Path, detections: Detections, truth: GroundTruth, images: int) -> None:
    """The files that Detectron2's evaluator reads and writes."""
    for i in range(images):
        rows = np.flatnonzero(truth.image == i)
        objects = [
            OBJECT.format(int(truth.ignore[r]), *(truth.box[r] + [1, 1, 0, 0])) for r in rows
        ]
        (folder / f"{i}.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    (folder / "test.txt").write_text("\n".join(map(str, range(images))))
    lines = []
    for i, score, box in zip(
        detections.image, detections.score.tolist(), detections.box, strict=True
    ):
        x1, y1, x2, y2 = box + np.array([1, 1, 0, 0], dtype=np.float32)
        lines.append(f"{i} {score:.3f} {x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f}")
    (folder / "car.out").write_text("\n".join(lines))


@pytest.mark.parametrize("points", ["11point", "area"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_detectron2_on_files(tmp_path: Path, seed: int, points: Points) -> None:
    detections, truth = random_case(seed)
    write_voc(tmp_path, detections, truth, images=12)
    convention = replace(DETECTRON2_VOC, interpolation=points)
    for iou in (0.5, 0.55, 0.75, 0.9):
        _, _, expected = voc_eval(
            str(tmp_path / "{}.out"),
            str(tmp_path / "{}.xml"),
            str(tmp_path / "test.txt"),
            "car",
            ovthresh=iou,
            use_07_metric=points == "11point",
        )
        result = average_precision(detections, truth, num_classes=1, iou=iou, convention=convention)
        assert result.mean == pytest.approx(expected, abs=1e-9)
        assert iou > 0.5 or expected > 0.2  # the case is not trivial
