"""Readers of detections, results and what training wrote down."""

import io
import json
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from sora_det.engine.metrics import kept_lines
from sora_det.evaluation import Bootstrap, Interval
from sora_det.evaluation.compare import by_method, compare, read_results
from sora_det.evaluation.prediction_images import Images
from sora_det.evaluation.predictions import Classes, Source, read_predictions
from sora_det.evaluation.robustness import Cell, RobustnessTable, Settings, expected
from sora_det.evaluation.saved import read_domain, write_domain
from sora_det.report.training import METRICS, read_training
from tests.tools.report_runs import domain_data, metrics_line
from tests.tools.results import PROTOCOL, table

from .mutations import (
    ODD,
    Maker,
    anything,
    as_json,
    change_tree,
    changed_bytes,
    changed_json,
    one_of,
)
from .target import Target, check_shown
from .weights import repacked

LISTED = [
    {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4.5], "score": 0.5},
    {"image_id": "2", "category_id": 2, "bbox": [0, 0, 30, 40], "score": 1, "domain": "fog"},
]
OBJECT = {
    "info": {"config": "toy"},
    "images": [{"id": 1, "file_name": "fog/1.jpg"}, {"id": "2", "file_name": "2.jpg"}],
    "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "van"}],
    "annotations": LISTED,
}
KNOWN = {"fog": Images(("1", "2"), ("fog/1.jpg", "fog/2.jpg"), np.full((2, 2), 50.0))}
CLASSES = Classes(("car", "person"), {"car": 0, "person": 1}, first=1)


def read_any_predictions(path: Path) -> None:
    first = None if b'"categories"' in path.read_bytes() else 1
    classes = Classes(CLASSES.classes, CLASSES.aliases, first=first)
    found = read_predictions([Source(path)], KNOWN, classes)["fog"]
    box = found.detections.box
    assert np.isfinite(box).all()
    assert ((box >= 0) & (box <= 50)).all()
    for remark in found.remarks:
        check_shown(remark.what)


# --- results -----------------------------------------------------------------------------


def results() -> dict[str, Any]:
    document = json.loads(table(60.0, 50.5, None, method="SoRA(rank=4)", seed=1).to_json())
    document["bootstrap"] = asdict(Bootstrap(100, 0.95, 0))
    document["target_interval"] = asdict(Interval(40.0, 60.0))
    document["scores"][1] |= {"interval": {"low": 1.0, "high": 80.0}, "dropped": 3, "d_ece": 2.0}
    document["scores"][1]["remarks"] = [{"what": "boxes reached beyond their image", "count": 2}]
    document["scores"][1]["lrp"] = {
        "error": 50.0,
        "localisation": 20.0,
        "false_positives": None,
        "false_negatives": 1.0,
    }
    return document


def read_any_results(path: Path) -> None:
    found = read_results(path)
    comparison = compare(by_method([found]))
    for text in (found.to_text(), found.to_csv(), found.to_latex(), comparison.render("text")):
        check_shown(text)
    for text in (found.to_markdown(), comparison.render("markdown")):
        check_shown(text)
        assert "<script" not in text.replace("\\<", "")
    assert type(found).from_json(found.to_json()) == found
    for form in ("json", "csv", "latex"):
        comparison.render(form)


def robustness() -> dict[str, Any]:
    settings = Settings(1, 3, "drawn", "2.0", "4.10", "11.0")
    domains = [split.domain for split in PROTOCOL.splits]
    cells = [
        Cell(d, name, s, 7, 21, 40.0, None if name else 50.0, 1.5)
        for d, name, s in expected(domains, ["fog"], [3])
    ]
    made = RobustnessTable("toy", PROTOCOL, settings, ("fog",), (), (3,), tuple(cells))
    return dict(json.loads(made.to_json()))


def read_any_robustness(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    found = RobustnessTable.from_json(text)
    check_shown(found.to_text())
    check_shown(found.to_markdown())
    assert RobustnessTable.from_json(found.to_json()) == found


# --- detections --------------------------------------------------------------------------


@cache
def arrays() -> dict[str, Any]:
    """Return the members of a valid file."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_domain(domain_data("fog", images=2), folder)
        with np.load(path) as stored:
            return dict(stored)


def packed(values: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **values)
    return stream.getvalue()


def odd_arrays(random: Random) -> bytes:
    """A file with an odd header or one odd array."""
    values = dict(arrays())
    if random.random() < 0.5:
        header = json.loads(str(values["header"]))
        values["header"] = np.array(json.dumps(change_tree(random, header)))
        return packed(values)
    name, kind = random.choice(sorted(values)), random.randrange(7)
    array = values[name]
    if kind == 0:
        del values[name]
    elif kind == 1:
        values[name] = array[:1] if array.ndim else np.zeros(2)
    elif kind == 2:
        values[name] = array.astype("U20")
    elif kind == 3:
        values[name] = np.full(array.shape, random.choice([v for v in ODD if type(v) is float]))
    elif kind == 4:
        values[name] = np.full(array.shape, random.choice((-1, 0, 1, 2**62)))
    elif kind == 5:
        texts = [v for v in ODD if type(v) is str and "\ud800" not in v]
        values[name] = np.full(array.shape, random.choice(texts))
    else:
        values[name] = np.zeros((2, 3, 4), dtype=random.choice(("f2", "c8", "M8[s]", "V3")))
    return packed(values)


def detections() -> Maker:
    valid = packed(arrays())
    return one_of(odd_arrays, odd_arrays, repacked(valid), changed_bytes(valid), anything(valid))


def read_any_detections(path: Path) -> None:
    data = read_domain(path)
    for file in data.files:
        assert ".." not in Path(file).parts
        assert not Path(file).is_absolute()


# --- metrics -----------------------------------------------------------------------------


def metrics() -> Maker:
    lines = [metrics_line(iteration).encode() for iteration in (0, 20, 40)]

    def by_value(random: Random) -> bytes:
        odd = as_json(change_tree(random, json.loads(lines[1])))
        return lines[0] + odd + b"\n" + lines[2]

    return one_of(by_value, by_value, changed_bytes(b"".join(lines)))


def read_any_metrics(path: Path) -> None:
    for line in kept_lines(path, 30):
        assert json.loads(line)["iteration"] < 30
    read_training(path.parent)


TARGETS = {
    "predictions": Target(
        one_of(changed_json(LISTED), changed_json(OBJECT)), "p.json", read_any_predictions
    ),
    "results": Target(changed_json(results()), "results.json", read_any_results),
    "robustness": Target(
        changed_json(robustness()), "robustness.json", read_any_robustness, named=False
    ),
    "detections": Target(detections(), "fog.npz", read_any_detections),
    "metrics": Target(metrics(), METRICS, read_any_metrics, ()),
}
