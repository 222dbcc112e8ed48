"""Small runs on disk for tests of the report: results, detections, images and a training."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from sora_det.evaluation.ap import Detections, GroundTruth
from sora_det.evaluation.protocol import RunInfo, SplitInfo
from sora_det.evaluation.saved import DomainData, Role, write_domain
from sora_det.evaluation.scoring import Extras, make_table, score_domain, voc_protocol

CLASSES = ("car", "person")
DOMAINS: dict[str, Role] = {"clear": "source", "fog": "target", "night": "target"}
SIZE = (160, 90)  # of boxes' coordinates; pictures are twice as large


def domain_data(
    name: str,
    root: Path | str = "",
    *,
    classes: tuple[str, ...] = CLASSES,
    images: int = 6,
    seed: int = 0,
) -> DomainData:
    """Two boxes an image; detections are them, moved, some wrong and some left out."""
    rng = np.random.default_rng([seed, len(name)])
    corner = rng.uniform((0, 0), (100, 50), (2 * images, 2))
    box = np.concatenate([corner, corner + rng.uniform(15, 40, (2 * images, 2))], axis=1)
    image, label = np.repeat(np.arange(images), 2), np.tile([0, 1], images)
    truth = GroundTruth(image, label, box, np.zeros(2 * images, dtype=bool))
    keep = rng.random(2 * images) < 0.7
    wrong = rng.random(2 * images) < 0.4
    found = box + rng.normal(0, 1, box.shape)
    found[wrong] = [0, 0, 8, 8]
    return DomainData(
        domain=name,
        role=DOMAINS.get(name, "target"),
        classes=classes,
        ids=tuple(f"{name}_{i}" for i in range(images)),
        files=tuple(f"{name}/{i}.jpg" for i in range(images)),
        root=str(root),
        size=np.tile(np.array(SIZE, dtype=float), (images, 1)),
        truth=truth,
        detections=Detections(
            image[keep], label[keep], rng.random(2 * images)[keep].round(3), found[keep]
        ),
    )


def write_run(
    folder: Path,
    *,
    domains: tuple[str, ...] = tuple(DOMAINS),
    classes: tuple[str, ...] = CLASSES,
    images: int = 6,
    run: RunInfo | None = None,
    min_side: float = 0.0,
    detections: bool = True,
    pictures: bool = True,
    metrics: bool = True,
    replicates: int = 50,
) -> Path:
    """Write the folder of a run that looks trained and scored; return the folder."""
    run = run or RunInfo(method="SoRA(rank=4)", config="toy", seed=0, date="2026-01-02")
    folder.mkdir(parents=True)
    root = folder.parent / "images"
    extras = Extras(replicates=replicates)
    scored, splits = [], []
    for name in domains:
        data = domain_data(name, root, classes=classes, images=images, seed=run.seed or 0)
        if detections:
            write_domain(data, folder)
        if pictures:
            write_images(data)
        one = score_domain(data, min_side=min_side, extras=extras)
        scored.append(one)
        splits.append(SplitInfo(name, f"toy/{name}/test", "test.txt", "ab" * 32, images, 12, 0))
    protocol = voc_protocol(
        classes, splits, max_detections=100, score_threshold=0.05, min_side=min_side
    )
    made = make_table("toy", protocol, scored, run=run, extras=extras)
    replace(made, run=replace(made.run, python="3.11.0")).write(folder)
    if metrics:
        (folder / "metrics.json").write_text("".join(map(metrics_line, range(0, 100, 20))))
    return folder


def metrics_line(iteration: int) -> str:
    values = {
        "iteration": iteration,
        "total_loss": 2 - iteration / 100,
        "loss_cls": 1 - iteration / 200,
        "lr/adapter": 1e-3,
        "lr/head": 1e-3,
        "weight_decay/adapter": 10 ** (-2 - iteration / 50),
        "weight_decay/head": 0.05,
        "weight_decay/no_decay": 0.0,
    }
    return json.dumps(values) + "\n"


def write_images(data: DomainData) -> None:
    for place, file in enumerate(data.files):
        path = Path(data.root) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([place, len(data.domain)])
        coarse = rng.integers(0, 255, (SIZE[1] // 8, SIZE[0] // 8, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (2 * SIZE[0], 2 * SIZE[1]), interpolation=cv2.INTER_CUBIC)
        path.write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
