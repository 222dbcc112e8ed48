"""scripts/predict.py as a user types it, and scripts/evaluate.py on what it writes."""

import json
import math
from pathlib import Path
from typing import Any

import cv2
import pytest
from detectron2.config import LazyConfig
from PIL import Image
from pycocotools.coco import COCO

from sora_det.engine.train import fit
from sora_det.evaluation import DomainTable
from sora_det.evaluation.saved import read_domains
from tests.tools.process import ROOT, Ended, Started
from tests.tools.tiny_run import CONFIG, MANY_BOXES, overrides, tiny

PREDICT = (ROOT / "scripts" / "predict.py", "--config-file", CONFIG)
EVALUATE = ROOT / "scripts" / "evaluate.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predict_script")


@pytest.fixture(scope="module")
def trained(toy: Path, folder: Path) -> DomainTable:
    cfg = tiny(toy, folder / "run", "train.max_iter=2", *MANY_BOXES)
    table = fit(cfg)
    LazyConfig.save(cfg, str(folder / "run" / "config.yaml"))  # as Detectron2's default_setup does
    return table


@pytest.fixture(scope="module")
def images(toy: Path) -> list[Path]:
    return sorted(file for file in toy.parent.rglob("JPEGImages/*") if "clear_test" in file.name)


@pytest.fixture(scope="module")
def runs(trained: DomainTable, toy: Path, folder: Path, images: list[Path]) -> dict[str, Ended]:
    """Predictions, all at once."""
    mixed = folder / "mixed"
    mixed.mkdir()
    Image.open(images[0]).convert("L").save(mixed / "grey.png")
    (mixed / "torn.jpg").write_bytes(images[0].read_bytes()[:200])
    video = cv2.VideoWriter(str(mixed / "drive.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5, (96, 96))
    for image in images[:3]:
        video.write(cv2.imread(str(image)))
    video.release()
    settings = ("--", *overrides(toy, folder / "run", *MANY_BOXES))
    # The benchmark's file alone, and the checkpoint by name.
    alone = folder / "alone" / "toy_weather.yaml"
    alone.parent.mkdir()
    alone.write_text(toy.read_text())
    elsewhere = ("--", *overrides(alone, folder / "nothing", *MANY_BOXES))
    checkpoint = ("--checkpoint", folder / "run" / "model_final.pth")
    everything: tuple[Any, ...] = ("--score-threshold", "0", "--no-pictures")
    commands: dict[str, tuple[Any, ...]] = {
        "one": (*checkpoint, images[0], *elsewhere),
        "mixed": ("--score-threshold", "0.1", mixed, *settings),
        "all": (*everything, toy.parent, *settings),
        "own": ("--config-file", folder / "run" / "config.yaml", images[0]),
        "untrained": (images[0], *elsewhere),
        "nothing": (folder / "none.jpg", *settings),
    }
    started = {
        name: Started(
            *PREDICT, "--output", folder / "out" / name, *rest, folder=folder / f"{name} says"
        )
        for name, rest in commands.items()
    }
    return {name: process.wait() for name, process in started.items()}


def document(folder: Path, name: str) -> Any:
    return json.loads((folder / "out" / name / "predictions.json").read_text())


def test_a_single_image(runs: dict[str, Ended], folder: Path, images: list[Path]) -> None:
    assert runs["one"].code == 0, runs["one"].err
    out = folder / "out" / "one"
    assert runs["one"].out.splitlines()[-1].endswith(f"detections in 1 images: {out}")
    assert [file.name for file in (out / "pictures").iterdir()] == [images[0].name]
    assert max(cv2.imread(str(out / "pictures" / images[0].name)).shape) == 96 * 5
    entry = {"id": 1, "file_name": images[0].name, "width": 96, "height": 96}
    assert document(folder, "one")["images"] == [entry]
    assert not (folder / "nothing").exists()  # the run's folder is only read


def test_the_config_in_the_folder_of_a_run_is_enough(
    runs: dict[str, Ended], folder: Path, images: list[Path]
) -> None:
    assert runs["own"].code == 0, runs["own"].err
    (entry,) = document(folder, "own")["images"]
    assert entry["file_name"] == images[0].name


def test_one_bad_file_among_many(runs: dict[str, Ended], folder: Path) -> None:
    assert runs["mixed"].code == 1
    last = runs["mixed"].err.splitlines()[-1]
    assert last.startswith("error: 1 files could not be read: ")
    assert "torn.jpg: not a readable image" in last
    assert "Traceback" not in runs["mixed"].err
    names = [image["file_name"] for image in document(folder, "mixed")["images"]]
    assert names == [*(f"drive.mp4/{i:06d}" for i in range(3)), "grey.png"]
    pictures = folder / "out" / "mixed" / "pictures"
    assert {file.name for file in pictures.iterdir()} == {"drive.mp4", "grey.png"}
    video = cv2.VideoCapture(str(pictures / "drive.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert len(document(folder, "mixed")["annotations"]) > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("untrained", "error: no trained detector: pass --checkpoint"),
        ("nothing", "error: no file or folder "),
    ],
)
def test_what_is_wrong_is_said_in_the_last_line(
    runs: dict[str, Ended], name: str, message: str
) -> None:
    assert runs[name].code == 1
    assert runs[name].err.splitlines()[-1].startswith(message)
    assert "Traceback" not in runs[name].err


def test_scores_survive_the_round_trip(
    runs: dict[str, Ended], trained: DomainTable, toy: Path, folder: Path
) -> None:
    """Detections written as JSON, found by the names of their files, score as the run did."""
    assert runs["all"].code == 0, runs["all"].err
    found = folder / "out" / "all" / "predictions.json"
    assert len(COCO(found).anns) > 1000
    scored = folder / "scored"
    options = ("--ignore-unknown-images", "--bootstrap", "0", "--name", "tiny", "--output", scored)
    ended = Started(EVALUATE, toy, found, *options, folder=folder / "scored says").wait()
    assert ended.code == 0, ended.err
    table = DomainTable.from_json((scored / "results.json").read_text())
    metrics = [
        (one.ap50, two.ap50, one.coco_ap, two.coco_ap)
        for one, two in zip(table.scores, trained.scores, strict=True)
    ]
    assert max(ap for ap, *_ in metrics if ap is not None) > 0
    for ours, theirs, our_ap, their_ap in metrics:
        assert math.isclose(ours or 0, theirs or 0, abs_tol=1e-6)
        assert math.isclose(our_ap or 0, their_ap or 0, abs_tol=1e-6)
    assert not table.protocol.differences(trained.protocol)
    assert table.run.method == "tiny"
    assert table.run.checkpoint.startswith("predictions.json (SHA-256 ")
    # The images of the training split, and nothing else, were of no use.
    (remark,) = table.scores[0].remarks[:1]
    assert "are of unknown images" in remark.what
    counts = [len(data.detections) for data in read_domains(scored)]
    assert sum(counts) + remark.count == len(COCO(found).anns)
