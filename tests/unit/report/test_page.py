"""The report: one file that needs nothing else, whatever the run folder holds or lacks."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sora_det.evaluation import Detections, DomainTable, GroundTruth, RunInfo, SplitInfo
from sora_det.evaluation.saved import DomainData, write_domain
from sora_det.evaluation.scoring import Extras, make_table, score_domain, voc_protocol
from sora_det.report.page import write_page

HOSTILE = "<script>alert(1)</script> & 'co'"
CLASSES = ("bus", HOSTILE)
EXTRAS = Extras(replicates=20, lrp=True, calibration=True)
IMAGES = 4


def domain(root: Path, name: str, role: Any, seed: int) -> DomainData:
    """Images with two boxes each, of which some are found."""
    draw = np.random.default_rng(seed)
    (root / name).mkdir(parents=True, exist_ok=True)
    files = tuple(f"{name}/{i}.jpg" for i in range(IMAGES))
    for file in files:
        cv2.imwrite(str(root / file), draw.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    image = np.repeat(np.arange(IMAGES), 2)
    label = np.tile([0, 1], IMAGES)
    box = np.tile([[4.0, 4, 24, 24], [30, 10, 60, 40]], (IMAGES, 1))
    kept = draw.random(len(image)) < 0.7
    found = box[kept] + draw.normal(0, 2, (int(kept.sum()), 4))
    return DomainData(
        domain=name,
        role=role,
        classes=CLASSES,
        ids=tuple(map(str, range(IMAGES))),
        files=files,
        root=str(root),
        size=np.full((IMAGES, 2), (64.0, 48.0)),
        truth=GroundTruth(image, label, box, np.zeros(len(image), bool)),
        detections=Detections(image[kept], label[kept], draw.random(len(found)), found),
    )


def write_run(folder: Path, root: Path, seed: int = 0, **run: Any) -> Path:
    """Write what a scored run leaves."""
    data = [domain(root, "clear", "source", seed), domain(root, "fog", "target", seed + 10)]
    splits = [SplitInfo(d.domain, f"toy/{d.domain}/test", "test.txt", "ab", 4, 8, 0) for d in data]
    scored = [score_domain(one, extras=EXTRAS) for one in data]
    info = RunInfo(**({"method": "SoRA(rank=2)", "seed": seed, "date": "2026-01-02"} | run))
    table = make_table("toy", voc_protocol(CLASSES, splits), scored, run=info, extras=EXTRAS)
    table.write(folder)
    for one in data:
        write_domain(one, folder)
    rows = [
        {
            "iteration": i,
            "total_loss": 2.0 - i / 10,
            "lr/adapter": 1e-4,
            "weight_decay/adapter": 0.1,
        }
        for i in range(10)
    ]
    (folder / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", tmp_path / "data")


def read(path: Path) -> Reader:
    return Reader(path.read_text(encoding="utf-8"))


def test_nothing_is_loaded_from_elsewhere(run: Path, tmp_path: Path) -> None:
    text = write_page([run], tmp_path / "a.html").read_text(encoding="utf-8")
    for _, attributes in Reader(text).tags:
        for name in ("src", "href", "xlink:href", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), value
    assert not re.search(r"url\((?!['\"]?(#|data:))", text)
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_what_comes_from_files_is_text(run: Path, tmp_path: Path) -> None:
    page = read(write_page([run], tmp_path / "a.html", title="<img src=x onerror=1>"))
    assert [tag for tag, _ in page.tags].count("script") == 1  # our own
    assert HOSTILE in page.text
    assert "<img src=x onerror=1>" in page.text


def test_every_part_is_there(run: Path, tmp_path: Path) -> None:
    page = read(write_page([run], tmp_path / "a.html"))
    table = DomainTable.from_json((run / "results.json").read_text())
    sections = [attributes.get("id") for tag, attributes in page.tags if tag == "section"]
    assert {"domains", "classes", "curves", "pictures", "training", "protocol"} <= {*sections}
    for score in table.scores:
        assert f"{score.ap50:.1f}" in page.text
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) >= 4
    assert all(attributes.get("alt") for attributes in images)
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    one, two = (write_page([run], tmp_path / f"{name}.html").read_bytes() for name in "ab")
    assert one == two


def test_runs_side_by_side(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "run1", tmp_path / "data1", seed=1)
    full = write_run(tmp_path / "full", tmp_path / "data2", seed=2, method="Full()")
    page = read(write_page([run, other, full], tmp_path / "a.html"))
    assert "±" in page.text
    assert "Full" in page.text
    with pytest.raises(ValueError, match="twice"):
        write_page([run, run], tmp_path / "a.html")


def test_other_protocols_are_refused_unless_forced(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", tmp_path / "data", seed=1)
    table = DomainTable.from_json((other / "results.json").read_text())
    replace(table, protocol=replace(table.protocol, interpolation="area")).write(other)
    with pytest.raises(ValueError, match="different protocols"):
        write_page([run, other], tmp_path / "a.html")
    page = read(write_page([run, other], tmp_path / "a.html", force=True))
    assert "interpolation" in page.text


@pytest.mark.parametrize("lacking", ["metrics.json", "detections", "images"])
def test_what_is_missing_is_said(run: Path, tmp_path: Path, lacking: str) -> None:
    whole = read(write_page([run], tmp_path / "whole.html"))
    target = tmp_path / "data" if lacking == "images" else run / lacking
    target.rename(tmp_path / "away")
    page = read(write_page([run], tmp_path / "a.html"))
    said = {"metrics.json": "metrics.json", "detections": "--eval-only", "images": "data"}
    assert said[lacking] in page.text
    assert page.text != whole.text


def test_bad_folders(run: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no such folder; give the output folder of a run"):
        write_page([tmp_path / "nowhere"], tmp_path / "a.html")
    file = run / "detections" / "fog.npz"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"fog\.npz"):
        write_page([run], tmp_path / "a.html")
    (run / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"results\.json"):
        write_page([run], tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()
