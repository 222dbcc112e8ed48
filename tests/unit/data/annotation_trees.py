"""Small VOC and COCO trees, written where a test wants them."""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

Box = tuple[str, float, float, float, float]  # name, xmin, ymin, xmax, ymax as in the file


def write_image(file: Path, *, width: int = 32, height: int = 24) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 120, 60)).save(file)


def write_xml(
    file: Path, objects: Sequence[Box | str] = (), *, size: str = "", extra: str = ""
) -> None:
    """Write an annotation; an object given as text is put in as it is."""
    body = "".join(one if isinstance(one, str) else object_xml(*one) for one in objects)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<annotation>{extra}{size}{body}</annotation>")


def object_xml(name: str, *corners: float, extra: str = "") -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def write_domain(folder: Path, split: str, images: dict[str, Sequence[Box | str]]) -> None:
    """Write images, annotations and one split file of a VOC folder."""
    for name, objects in images.items():
        write_image(folder / "JPEGImages" / f"{name}.jpg")
        write_xml(folder / "Annotations" / f"{name}.xml", objects)
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in images))


def write_coco(folder: Path, name: str, content: dict) -> Path:
    """Write an annotation file and the images that it names."""
    for image in content["images"]:
        write_image(folder / image["file_name"])
    file = folder / name
    file.write_text(json.dumps(content))
    return file
