"""A benchmark of empty images and detectors that know the answers."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.data.samplers import InferenceSampler
from detectron2.structures import Boxes, Instances
from torch import nn

from sora_det.data import Benchmark, Domain, records

SIZE = (120, 200)  # height, width
CLASSES = ("bus", "car", "truck")
OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>
<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


def write_benchmark(root: Path, images: dict[str, int] | None = None) -> Benchmark:
    """Domains clear (source), fog and night: no trucks in fog; one difficult car an image."""
    images = images or {"clear": 7, "fog": 5, "night": 3}
    for name, count in images.items():
        folder = root / name
        for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        names = [f"{i:03d}" for i in range(count)]  # the same in every domain
        for i, stem in enumerate(names):
            objects = [("car", 0, 11, 11, 30, 30), ("car", 1, 101, 51, 120, 70)]
            objects += [("bus", 0, 51 + i, 11, 90 + i, 50)] if i % 2 == 0 else []
            objects += [("truck", 0, 21, 61, 60, 100)] if name != "fog" else []
            size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>"
            body = size + "".join(OBJECT.format(*row) for row in objects)
            (folder / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{body}</annotation>")
            (folder / "JPEGImages" / f"{stem}.jpg").touch()
        for split in ("train", "test"):
            (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return Benchmark(
        name="small",
        root=root,
        format="voc",
        classes=CLASSES,
        class_map={},
        source=Domain("clear", ("clear",), {"train": "train", "test": "test"}),
        targets=tuple(Domain(n, (n,), {"test": "test"}) for n in images if n != "clear"),
    )


def loader(benchmark: Benchmark) -> Callable[[str], Iterator[list[dict[str, Any]]]]:
    """Like Detectron2's test loader: one image a batch, shared among processes."""

    def load(name: str) -> Iterator[list[dict[str, Any]]]:
        _, domain, role = name.split("/")
        images = records(benchmark, domain, role)
        for i in InferenceSampler(len(images)):
            yield [{k: v for k, v in images[i].items() if k != "annotations"}]

    return load


Change = Callable[[Instances, str], Instances]


class Oracle(nn.Module):
    """Finds every box, then lets `change` spoil the result."""

    def __init__(self, benchmark: Benchmark, change: Change | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.change = change
        self.answers = {
            (domain.name, image["image_id"]): image["annotations"]
            for domain in benchmark.domains
            for image in records(benchmark, domain.name, "test")
        }

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        assert not self.training
        assert not torch.is_grad_enabled()
        return [{"instances": self.detect(image)} for image in batch]

    def detect(self, image: dict[str, Any]) -> Instances:
        boxes = self.answers[image["domain"], image["image_id"]]
        found = Instances((image["height"], image["width"]))
        found.pred_boxes = Boxes(torch.tensor([b["bbox"] for b in boxes]).reshape(-1, 4))
        found.scores = torch.full((len(boxes),), 0.9)
        found.pred_classes = torch.tensor([b["category_id"] for b in boxes])
        key = f"{image['domain']}/{image['image_id']}"
        return self.change(found, key) if self.change else found


def noisy(found: Instances, key: str) -> Instances:
    """Reproducible per image: moved, repeated and wrong boxes, with ties among the scores."""
    draw = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    many = Instances.cat([found, found, found])
    many.pred_boxes.tensor += 3 * torch.randn(len(many), 4, generator=draw)
    many.scores = torch.randint(0, 8, (len(many),), generator=draw) / 8
    wrong = torch.rand(len(many), generator=draw) < 0.2
    many.pred_classes[wrong] = 1
    return many
