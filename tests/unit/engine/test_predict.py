"""Images in, detections out: in the image's own pixels, and as JSON that others read."""

import io
import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools.coco import COCO
from torch import nn

from sora_det.data import PadTo
from sora_det.data.media import find_media
from sora_det.engine.predict import Detector, Document, load_detector, predict
from sora_det.engine.train import build
from sora_det.evaluation.ap import Detections
from tests.tools.tiny_run import tiny

CLASSES = ("bus", "car")
AUGMENTATIONS = (T.ResizeShortestEdge(30, 40), PadTo(size=40, value=114.0))


class Quadrant(nn.Module):
    """Finds a car in the upper left quarter of the canvas, and one whose score is 0.2 in all."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        assert not self.training
        assert not torch.is_grad_enabled()
        (image,) = batch
        self.seen.append(image)
        height, width = image["height"], image["width"]
        found = Instances((height, width))
        found.pred_boxes = Boxes(
            torch.tensor([[0, 0, width / 2, height / 2], [0, 0, width, height]])
        )
        found.scores, found.pred_classes = torch.tensor([0.9, 0.2]), torch.tensor([1, 0])
        return [{"instances": found}]


def detector(augmentations: Sequence[Any] = (), threshold: float = 0.5) -> Detector:
    return Detector(
        Quadrant(), classes=CLASSES, augmentations=augmentations, score_threshold=threshold
    )


def test_boxes_end_where_the_image_does() -> None:
    found = detector(AUGMENTATIONS, 0.0)(np.zeros((60, 80, 3), np.uint8))
    # 30 x 40 pixels of 40 x 40 are image: the canvas has 80 x 80 of the image's own.
    assert found.box.tolist() == [[0, 0, 40, 40], [0, 0, 80, 60]]
    assert found.label.tolist() == [1, 0]


def test_low_scores_are_left_out() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    assert detector(threshold=0.5)(image).score.tolist() == pytest.approx([0.9])
    assert len(detector(threshold=0.2)(image)) == 2
    assert detector(threshold=1.0)(image).box.shape == (0, 4)
    with pytest.raises(ValueError, match=r"score_threshold must be in 0\.\.1, got 50"):
        detector(threshold=50)


# --- files ----------------------------------------------------------------------------------------


class Notes:
    """A viewer that writes down what it is shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, tuple[int, ...], int]] = []

    def picture(self, name: str, image: np.ndarray, found: Detections) -> None:
        self.shown.append((name, image.shape, len(found)))

    @contextmanager
    def film(self, name: str, rate: float) -> Iterator[Any]:
        self.shown.append((f"{name} begins", (), round(rate)))
        yield lambda image, found: self.picture(name, image, found)
        self.shown.append((f"{name} ends", (), 0))


def write_video(file: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(frames):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()


def test_what_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "d.png"):
        Image.new("L", (64, 48)).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes(b"torn")
    (tmp_path / "c.mp4").write_bytes(b"torn")
    write_video(tmp_path / "e.mp4", 2)
    notes, document = Notes(), Document(CLASSES)
    caplog.set_level(logging.WARNING)
    failed = predict(detector(), find_media([tmp_path]), document, viewer=notes)
    assert [message.partition(":")[0] for message in failed] == [
        str(tmp_path / "b.png"),
        str(tmp_path / "c.mp4"),
    ]
    assert [name for name in ("b.png", "c.mp4") if name in caplog.text] == ["b.png", "c.mp4"]
    shape = (48, 64, 3)
    assert notes.shown == [
        ("a.png", shape, 1),
        ("d.png", shape, 1),
        ("e.mp4 begins", (), 10),
        ("e.mp4", shape, 1),
        ("e.mp4", shape, 1),
        ("e.mp4 ends", (), 0),
    ]
    names = ["a.png", "d.png", "e.mp4/000000", "e.mp4/000001"]
    assert [entry["file_name"] for entry in document.images] == names
    assert (document.images[3]["video"], document.images[3]["frame"]) == ("e.mp4", 1)


def test_bars_on_a_terminal_do_not_run_into_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    handler = logging.StreamHandler(terminal)
    logger = logging.getLogger("sora_det")
    logger.addHandler(handler)
    try:
        (tmp_path / "a.png").write_bytes(b"torn")
        write_video(tmp_path / "e.mp4", 2)
        predict(detector(), find_media([tmp_path]), Document(CLASSES))
    finally:
        logger.removeHandler(handler)
    lines = re.split(r"[\r\n]+", terminal.getvalue())
    assert any(re.match(r"detecting: +0%.* 0/2 ", line) for line in lines)
    assert any(re.match(r"e\.mp4: +0%.* 0/2 .*frame/s", line) for line in lines)
    (warning,) = (line for line in lines if "a.png: not a readable image" in line)
    assert "%|" not in warning


def test_coco_reads_the_document(tmp_path: Path) -> None:
    document = Document(("bus", "Fußgänger"), info={"config": "x"})
    rng = np.random.default_rng(0)
    corners = np.sort(rng.random((50, 2, 2)) * 1900, axis=1).reshape(-1, 4).astype(np.float32)
    scores = rng.random(50).astype(np.float32)
    found = Detections(np.zeros(50, int), rng.integers(0, 2, 50), scores, corners)
    document.add("a b.jpg", np.zeros((10, 20, 3)), found)
    document.add("none.jpg", np.zeros((1080, 1920, 3)), detector()(np.zeros((4, 4, 3), np.uint8)))
    document.found[-1] = Detections(*(column[:0] for column in vars(found).values()))
    file = document.write(tmp_path / "new" / "predictions.json")
    coco = COCO(file)
    assert coco.imgs[1] == {"id": 1, "file_name": "a b.jpg", "width": 20, "height": 10}
    assert [c["name"] for c in coco.loadCats([1, 2])] == ["bus", "Fußgänger"]
    assert coco.getAnnIds(imgIds=[2]) == []
    entries = coco.loadAnns(coco.getAnnIds())
    assert [e["id"] for e in entries] == list(range(1, 51))
    assert [e["category_id"] - 1 for e in entries] == found.label.tolist()
    boxes = np.array([e["bbox"] for e in entries])
    np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:], corners[:, 2:], atol=2e-6)
    np.testing.assert_allclose(boxes[:, :2], corners[:, :2], atol=1e-6)
    assert all(e["area"] == pytest.approx(e["bbox"][2] * e["bbox"][3], rel=1e-4) for e in entries)
    assert np.array_equal(np.array([e["score"] for e in entries], dtype=np.float32), scores)
    assert json.loads(file.read_text(encoding="utf-8"))["info"] == {"config": "x"}
    assert [path.name for path in file.parent.iterdir()] == ["predictions.json"]


def test_an_empty_document(tmp_path: Path) -> None:
    assert json.loads(Document(CLASSES).write(tmp_path / "a.json").read_text())["images"] == []


# --- from a config --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    _, model = build(tiny(toy, folder))
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    return folder / "model_final.pth"


def test_neither_data_nor_pretrained_weights_are_needed(
    toy: Path, checkpoint: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "toy_weather.yaml"
    alone.write_text(toy.read_text())
    start = tmp_path / "start.safetensors"
    start.write_text("of the run")
    cfg = tiny(alone, tmp_path, "backbone.net.random_init=false", f"adaptation.start_file={start}")
    found = load_detector(cfg, checkpoint=str(checkpoint), score_threshold=0.25)
    assert len(found.classes) == 7
    assert found.score_threshold == 0.25
    assert not cfg.backbone.net.random_init  # the config given is left alone
    assert start.read_text() == "of the run"
    for name, value in torch.load(checkpoint)["model"].items():
        assert torch.equal(found.model.state_dict()[name], value), name


def test_without_a_checkpoint(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no trained detector: pass --checkpoint"):
        load_detector(tiny(toy, tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none\.pth"):
        load_detector(tiny(toy, tmp_path), checkpoint=str(tmp_path / "none.pth"))
