"""Readers of annotations, split files, benchmark files and images."""

import io
import unicodedata
from pathlib import Path
from random import Random
from typing import Any

import yaml
from PIL import Image

from sora_det.data import load_benchmark
from sora_det.data.coco_json import category_names, coco_records
from sora_det.data.images import BadImageError, image_size, read_image
from sora_det.data.voc_plain import read_plain
from sora_det.data.voc_xml import read_split, voc_record

from .mutations import ODD, Maker, anything, changed_bytes, changed_json, one_of
from .target import Target

IDS = {"car": 0, "person": 1}
COCO = {
    "images": [
        {"id": 1, "file_name": "a.jpg", "width": 32, "height": 24},
        {"id": 2, "file_name": "sub/b.jpg"},
    ],
    "categories": [{"id": 7, "name": "car"}, {"id": 8, "name": "tram"}],
    "annotations": [
        {"image_id": 1, "category_id": 7, "bbox": [1, 2, 10, 12.5], "iscrowd": 0},
        {"image_id": 2, "category_id": 8, "bbox": [0, 0, 0, 5]},
    ],
}
BENCHMARK = {
    "name": "my weather",
    "root": "data",
    "format": "voc",
    "classes": ["car", "two wheeler"],
    "class_map": {"car": ["van", "truck"]},
    "source": {"name": "clear", "folder": "clear", "train": "train", "val": "val", "test": "test"},
    "targets": [{"name": "fog", "folder": ["fog/a", "fog/b"], "test": "test"}],
}
SPLIT = b"a\nsub/b.jpg 1\n c -1\nd\t0\n"


def check_record(record: dict[str, Any]) -> None:
    sides = (record["width"], record["height"])
    assert all(type(side) is int and 0 < side < 1e8 for side in sides)
    for box in record["annotations"]:
        x0, y0, x1, y1 = box["bbox"]
        assert -1e8 < x0 < x1 < 1e8
        assert -1e8 < y0 < y1 < 1e8
        assert box["category_id"] in IDS.values()


def read_voc(path: Path) -> None:
    plain = read_plain(path.read_bytes()) if path.stat().st_size < 1000 else None
    record = voc_record(path, path.with_name("a.jpg"), category_ids=IDS)
    check_record(record)
    if plain is not None:
        assert (plain.width, plain.height) == (record["width"], record["height"])
        assert len(record["annotations"]) <= len(plain.objects[0])


def read_coco(path: Path) -> None:
    for record in coco_records(path, path.parent, category_ids=IDS, domain="day"):
        check_record(record)
        assert Path(record["file_name"]).is_file()
    category_names(path)


def read_list(path: Path) -> None:
    for name in read_split(path):
        assert ".." not in Path(name).parts
        (path.parent / name).is_file()


def read_benchmark(path: Path) -> None:
    benchmark = load_benchmark(path)
    for domain in benchmark.domains:
        for folder in domain.folders:
            (benchmark.root / folder).is_dir()
    letters = "".join(benchmark.category_ids)
    assert not {unicodedata.category(letter) for letter in letters} & {"Cc", "Cf", "Cs", "Zl"}


def read_pixels(path: Path) -> None:
    width, height = image_size(path)
    assert read_image(path).shape == (height, width, 3)


NUMBERS = ("1", "2.5", "30", " 12 ", "1e1", "20", "9", "3")
TEXTS = [str(value) for value in ODD if isinstance(value, str | int | float)]
TEXTS = ["".join(letter for letter in text if letter not in "<&\x00\x1b") for text in TEXTS]


def xml(random: Random) -> bytes:
    """An annotation whose parts are odd, missing or repeated."""

    def element(name: str, good: tuple[str, ...] = NUMBERS) -> str:
        text = random.choice(good if random.random() < 0.8 else TEXTS)
        return f"<{name}>{text}</{name}>" * random.choice((1, 1, 1, 1, 1, 1, 0, 2))

    text = f"<size>{element('width')}{element('height')}</size>" * random.choice((1, 1, 0, 2))
    for _ in range(random.randrange(4)):
        corners = "".join(element(key) for key in ("xmin", "ymin", "xmax", "ymax"))
        name = element("name", ("car", "person", "tram"))
        text += f"<object>{name}<bndbox>{corners}</bndbox></object>"
    return f"<annotation>{text}</annotation>".encode("utf-8", "surrogatepass")


VOC = (
    b"<?xml version='1.0' encoding='utf-8'?><annotation><size><width>32</width><height>24</height>"
    b"</size><object><name>car</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin>"
    b"<xmax>10.5</xmax><ymax>20</ymax></bndbox></object></annotation>"
)


def picture(form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((6, 4)).convert("RGB").save(stream, form, **options)
    return stream.getvalue()


def pictures() -> Maker:
    turned = Image.Exif()
    turned[0x0112] = 6
    forms = [picture(form) for form in ("PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP")]
    valid = [*forms, picture("JPEG", exif=turned), picture("TIFF", compression="tiff_lzw")]
    return one_of(*map(changed_bytes, valid), *map(changed_bytes, valid), *map(anything, valid))


def write_images(folder: Path) -> None:
    (folder / "sub").mkdir(exist_ok=True)
    for name in ("a.jpg", "sub/b.jpg"):
        Image.new("RGB", (32, 24)).save(folder / name)


BLOCKS = yaml.safe_dump(BENCHMARK).encode()

TARGETS = {
    "voc": Target(
        one_of(xml, xml, changed_bytes(VOC), anything(VOC)),
        "a.xml",
        read_voc,
        prepare=write_images,
    ),
    "split": Target(one_of(changed_bytes(SPLIT), anything(SPLIT)), "train.txt", read_list),
    "coco": Target(
        changed_json(COCO), "a.json", read_coco, (ValueError, FileNotFoundError), True, write_images
    ),
    "benchmark": Target(  # JSON is YAML, but for a few odd texts
        one_of(changed_json(BENCHMARK), changed_bytes(BLOCKS), anything(BLOCKS)),
        "b.yaml",
        read_benchmark,
    ),
    "image": Target(pictures(), "a.jpg", read_pixels, (BadImageError,)),
}
