"""scripts/evaluate.py as a user types it, on VOC and COCO benchmarks."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sora_det.data import load_benchmark, records
from sora_det.evaluation import DomainTable
from sora_det.evaluation.saved import read_domains
from sora_det.report.page import write_page
from tests.tools.process import ROOT, Started

SCRIPT = ROOT / "scripts" / "evaluate.py"
Call = Callable[..., str]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the script in this process; gives what it prints, or its error."""

    def run(*arguments: str | Path) -> str:
        options = () if "--bootstrap" in arguments else ("--bootstrap", "0")
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, (*arguments, *options))])
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as ended:
            return str(ended.code)
        said = capsys.readouterr()
        return said.out + said.err

    return run


def truth(benchmark: Path, **changes: Any) -> list[dict[str, Any]]:
    """Every box of every test split as a detection."""
    loaded = load_benchmark(benchmark)
    return [
        {
            "image_id": image["image_id"],
            "category_id": box["category_id"],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": 0.9,
            "domain": domain.name,
        }
        | changes
        for domain in loaded.domains
        for image in records(loaded, domain.name, "test")
        for box in image["annotations"]
        for x0, y0, x1, y1 in [box["bbox"]]
    ]


def write(file: Path, content: Any) -> Path:
    file.write_text(json.dumps(content))
    return file


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A benchmark whose domains have the same image ids, and category ids with gaps."""
    for name in ("day", "night"):
        (tmp_path / name).mkdir()
        for file in ("1.png", "2.png"):
            Image.fromarray(np.zeros((80, 100, 3), np.uint8)).save(tmp_path / name / file)
        content = {
            "categories": [
                {"id": 26, "name": "car"},
                {"id": 24, "name": "person"},
                {"id": 3, "name": "sky"},
            ],
            "images": [
                {"id": i, "file_name": f"{i}.png", "width": 100, "height": 80} for i in (1, 2)
            ],
            "annotations": [
                {"id": i, "image_id": i, "category_id": c, "bbox": [10, 10, 30, 40]}
                for i, c in ((1, 26), (2, 24))
            ],
        }
        write(tmp_path / f"{name}.json", content)
    file = tmp_path / "small.yaml"
    file.write_text(
        """
name: small
root: .
format: coco
classes: [person, car]
source:
  name: day
  folder: .
  train: {annotations: day.json, images: day}
  test: {annotations: day.json, images: day}
targets:
  - {name: night, folder: ., test: {annotations: night.json, images: night}}
"""
    )
    return file


def row(image: int, category: int, **changes: Any) -> dict[str, Any]:
    base = {"image_id": image, "category_id": category, "bbox": [10, 10, 30, 40], "score": 0.5}
    return base | changes


def test_as_a_user_starts_it(toy: Path, tmp_path: Path) -> None:
    found = write(tmp_path / "found.json", truth(toy))
    out = tmp_path / "out"
    ended = Started(
        *(SCRIPT, toy, found, "--first-category-id", "0", "--output", out, "--name", "oracle"),
        *("--lrp", "--calibration", "--min-side", "12", "--bootstrap", "50"),
        folder=tmp_path / "says",
    ).wait()
    assert ended.code == 0, ended.err
    assert "target mean" in ended.out
    assert "Warning" not in ended.err
    table = DomainTable.from_json((out / "results.json").read_text())
    assert [score.ap50_undropped or score.ap50 for score in table.scores] == [100.0] * 5
    assert table.scores[0].dropped > 0
    assert table.run.method == "oracle"
    assert table.protocol.min_side == 12
    assert table.bootstrap is not None
    assert table.bootstrap.replicates == 50
    assert table.scores[0].d_ece is not None
    assert (out / "results.md").is_file()
    data = read_domains(out)
    assert [d.domain for d in data] == ["daytime-clear", *sorted(d.domain for d in data[1:])]
    assert (Path(data[0].root) / data[0].files[0]).is_file()
    page = write_page([out], tmp_path / "page.html").read_text()
    assert "oracle on toy_weather" in page
    assert page.count("<img ") > 5 * 3


@pytest.mark.parametrize("kind", ["text", "json", "csv", "markdown", "latex"])
def test_formats(call: Call, toy: Path, tmp_path: Path, kind: str) -> None:
    found = write(tmp_path / "found.json", [])
    shown = call(toy, found, "--format", kind)
    assert "file holds no detection: found.json" in shown
    if kind == "json":
        assert [score.ap50 for score in DomainTable.from_json(shown).scores] == [0.0] * 5


def test_numbers_of_categories(call: Call, toy: Path, tmp_path: Path) -> None:
    found = write(tmp_path / "found.json", truth(toy))
    assert call(toy, found).startswith(f"error: {found}: the file does not name its categories")
    shown = call(toy, found, "--first-category-id", "1")
    assert "category ids must be among 1, 2, 3, 4, 5, 6, 7, got 0" in shown


def test_single_domains_of_a_coco_benchmark(call: Call, coco: Path, tmp_path: Path) -> None:
    day = write(tmp_path / "found_day.json", [row(1, 26), row(2, 24), row(2, 3)])
    night = write(tmp_path / "found_night.json", [row(1, 26), row(2, 26)])
    table = DomainTable.from_json(call(coco, f"day={day}", f"night={night}", "--format", "json"))
    assert [[c.ap50 for c in s.classes] for s in table.scores] == [[100, 100], [0, 100]]
    assert [[r.what for r in s.remarks] for s in table.scores] == [
        ["detections are of classes that the benchmark lacks and are left out: sky 1"],
        [],
    ]
    table = DomainTable.from_json(call(coco, f"night={night}", "--format", "json"))
    assert [score.domain for score in table.scores] == ["night"]
    assert (
        "2 images could be several of the benchmark's: '1' (image 0 of day, image 0 of night)"
        in (call(coco, day))
    )
    assert "category ids must be among 3, 24, 26, got 27" in (
        call(coco, f"day={write(tmp_path / 'x.json', [row(1, 27)])}")
    )
    assert "the domains are day, night, got 'dusk'" in call(coco, "dusk=x.json")


def test_a_number_that_is_given_counts_more_than_those_of_the_annotations(
    call: Call, coco: Path, tmp_path: Path
) -> None:
    found = write(tmp_path / "found.json", [row(1, 2), row(2, 1)])
    shown = call(coco, f"day={found}", "--first-category-id", "1", "--format", "json")
    assert DomainTable.from_json(shown).scores[0].ap50 == 100.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty: a run without detections is written as []"),
        ('[{"image_id": 1, "category_id": 26, "bb', "is it cut off?"),
        (json.dumps([row(1, 26, score=1.5)]), "1 of 1 entries have a score that is not between"),
        (json.dumps([row(7, 26)]), "1 of 1 entries are of 1 images that day do not have: 7"),
    ],
)
def test_bad_files_are_named(
    call: Call, coco: Path, tmp_path: Path, text: str, message: str
) -> None:
    found = tmp_path / "found.json"
    found.write_text(text)
    shown = call(coco, f"day={found}", "--output", tmp_path / "out")
    assert shown.startswith(f"error: {found}: ")
    assert message in shown
    assert not (tmp_path / "out").exists()


def test_missing_files(call: Call, coco: Path, tmp_path: Path) -> None:
    assert call(coco, tmp_path / "none.json").startswith("error: ")
    assert "no benchmark file" in call(tmp_path / "none.yaml", tmp_path / "none.json")
