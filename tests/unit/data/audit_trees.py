"""A small benchmark to damage, in both formats, and what an audit finds in it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sora_det.data import Benchmark, load_benchmark
from sora_det.data.audit import Audit, audit
from tests.unit.data.annotation_trees import write_xml

SIZE = "<size><width>64</width><height>48</height></size>"
SPLITS = {
    ("clear", "train"): "abcdef",
    ("clear", "test"): "gh",
    ("fog", "test"): "ai",  # an a of its own: ids are a domain's
}
YAML = """
name: weather
root: data
format: {format}
classes: [car, person]
class_map: {{person: [rider]}}
source: {{name: clear, folder: clear, train: {train}, test: {test}}}
targets: [{{name: fog, folder: [Fog, fog], test: {test}}}]
"""


def picture(seed: int) -> np.ndarray:
    """Soft blobs, other ones for every seed; (48, 64, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 255, (18, 24, 3), np.uint8)
    return cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC)


def save(file: Path, pixels: np.ndarray, **options: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


def voc_weather(folder: Path) -> Benchmark:
    """Write ten images in three splits, with nothing wrong."""
    for number, ((domain, role), names) in enumerate(SPLITS.items()):
        place = folder / "data" / domain
        for name in names:
            save(place / "JPEGImages" / f"{name}.jpg", picture(100 * number + ord(name)))
            boxes = [("car", 1, 1, 20, 20), ("rider", 60, 40, 64, 48)]
            write_xml(place / "Annotations" / f"{name}.xml", boxes, size=SIZE)
        lists = place / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{role}.txt").write_text("\n".join(names))
    file = folder / "weather.yaml"
    file.write_text(YAML.format(format="voc", train="train", test="test"))
    return load_benchmark(file, root=str(folder / "data"))


def coco_weather(folder: Path) -> Benchmark:
    """Write the same in COCO's format."""
    voc = voc_weather(folder)
    for (domain, role), names in SPLITS.items():
        images = [
            {"id": i, "file_name": f"JPEGImages/{name}.jpg", "width": 64, "height": 48}
            for i, name in enumerate(names)
        ]
        boxes = [
            {"id": 9 - i, "image_id": i, "category_id": 7, "bbox": [0, 0, 20, 20]}
            for i in range(len(names))
        ]
        write(voc, f"{domain}/{role}.json", {
            "images": images, "annotations": boxes, "categories": [{"id": 7, "name": "car"}]
        })  # fmt: skip
    file = folder / "coco.yaml"
    parts = {role: f"{{annotations: {role}.json}}" for role in ("train", "test")}
    file.write_text(YAML.format(format="coco", **parts))
    return load_benchmark(file, root=str(voc.root))


def write(benchmark: Benchmark, name: str, content: Any) -> None:
    (benchmark.root / name).write_text(json.dumps(content))


def change(benchmark: Benchmark, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((benchmark.root / name).read_text())
    edit(content)
    write(benchmark, name, content)


def look(benchmark: Benchmark, **options: Any) -> Audit:
    return audit(benchmark, progress=False, **({"cache": False} | options))


def found(benchmark: Benchmark) -> list[tuple[str, str, str]]:
    return [(one.kind, one.split, one.image) for one in look(benchmark).findings]


def file_of(benchmark: Benchmark, name: str) -> Path:
    """A file of the source."""
    return benchmark.root / "clear" / name


def xml(benchmark: Benchmark, name: str, *objects: Any, size: str = SIZE) -> None:
    write_xml(file_of(benchmark, f"Annotations/{name}.xml"), objects, size=size)


def listed(benchmark: Benchmark, role: str, text: str) -> None:
    file_of(benchmark, f"ImageSets/Main/{role}.txt").write_text(text)


def turned(benchmark: Benchmark, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(file_of(benchmark, "JPEGImages/c.jpg"), picture(1), exif=exif)
