"""The suite `evaluation` of scripts/benchmark.py, in small."""

import numpy as np

from scripts.benchmarks.evaluation import evaluation
from scripts.benchmarks.synthetic import CLASSES, DIVERSE_WEATHER, draw, sample


def test_evaluation() -> None:
    result = evaluation(1, images=30, share=0.002)
    assert [timing.name for timing in result.timings] == [
        "ours, VOC at ten thresholds", "PascalVOCDetectionEvaluator", "ours, COCO", "pycocotools"
    ]  # fmt: skip
    assert result.work.startswith("30 images with 100 detections each in 7 classes")
    (voc,) = (value for name, value in result.facts.items() if "AP, AP50, AP75" in name)
    assert float(voc.partition("; ")[2].split()[0]) < 1e-9
    (coco,) = (value for name, value in result.facts.items() if "pycocotools" in name)
    assert float(coco) < 1e-9
    assert any(name.startswith("ours, COCO, 89 images, 8900 detections") for name in result.facts)


def test_drawn_domains_have_the_published_size() -> None:
    assert sum(domain.images for domain in DIVERSE_WEATHER) == 44_241
    night = next(domain for domain in DIVERSE_WEATHER if domain.name == "night-rainy")
    assert dict(zip(CLASSES, night.boxes, strict=True))["motor"] == 49
    found, truth = draw(sample(night, 50))
    assert np.bincount(found.image).tolist() == [100] * 50
    assert np.bincount(truth.label).tolist() == [5, 2, 434, 1, 31, 1, 10]
    for box in (found.box, truth.box):
        assert (box >= 0).all()
        assert (box[:, 2:] - box[:, :2]).min() > 0.99
        assert (box[:, [0, 2]].max(), box[:, [1, 3]].max()) <= (1280, 720)
