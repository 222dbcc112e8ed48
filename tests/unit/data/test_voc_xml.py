import logging
from pathlib import Path

import pytest
from detectron2.structures import BoxMode
from PIL import Image

from sora_det.data.checks import Tally
from sora_det.data.voc_index import voc_records
from sora_det.data.voc_xml import read_split, voc_record
from tests.unit.data.annotation_trees import object_xml, write_domain, write_image, write_xml

IDS = {"car": 0, "person": 1}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path / "a.jpg", width=32, height=24)
    return tmp_path / "a.jpg"


def test_corners_become_continuous(tmp_path: Path, image: Path) -> None:
    size = "<size><width>32</width><height>24</height></size>"
    write_xml(tmp_path / "a.xml", [("person", 1, 2, 10, 20)], size=size)
    record = voc_record(tmp_path / "a.xml", image, category_ids=IDS)
    assert (record["width"], record["height"]) == (32, 24)
    assert record["file_name"] == str(image)
    assert record["annotations"] == [
        {
            "bbox": [0.0, 1.0, 10.0, 20.0],
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": 1,
            "iscrowd": 0,
        }
    ]


def test_fractions_are_cut_off(tmp_path: Path, image: Path) -> None:
    write_xml(tmp_path / "a.xml", [("car", 1.9, 2.5, 10.99, 20.0)])
    (box,) = voc_record(tmp_path / "a.xml", image, category_ids=IDS)["annotations"]
    assert box["bbox"] == [0.0, 1.0, 10.0, 20.0]


@pytest.mark.parametrize(("flag", "crowd"), [("1", 1), (" 1 ", 1), ("0", 0), ("", 0)])
def test_difficult_objects_are_crowds(tmp_path: Path, image: Path, flag: str, crowd: int) -> None:
    extra = f"<difficult>{flag}</difficult>"
    write_xml(tmp_path / "a.xml", [object_xml("car", 1, 1, 9, 9, extra=extra)])
    (box,) = voc_record(tmp_path / "a.xml", image, category_ids=IDS)["annotations"]
    assert box["iscrowd"] == crowd


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>", "<size/>"])
def test_size_falls_back_on_the_image(tmp_path: Path, image: Path, size: str) -> None:
    write_xml(tmp_path / "a.xml", size=size)
    record = voc_record(tmp_path / "a.xml", image, category_ids=IDS)
    assert (record["width"], record["height"], record["annotations"]) == (32, 24, [])


def test_size_follows_the_orientation_tag(tmp_path: Path) -> None:
    photo = Image.new("RGB", (32, 24))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "b.jpg", exif=exif)
    write_xml(tmp_path / "b.xml")
    record = voc_record(tmp_path / "b.xml", tmp_path / "b.jpg", category_ids=IDS)
    assert (record["width"], record["height"]) == (24, 32)


def test_unknown_names_and_empty_boxes_are_counted(tmp_path: Path, image: Path) -> None:
    objects = [("Car", 1, 1, 9, 9), ("car", 9, 1, 8, 9), ("car", 9, 1, 9, 9), ("tram", 1, 1, 2, 2)]
    write_xml(tmp_path / "a.xml", objects)
    tally = Tally()
    record = voc_record(tmp_path / "a.xml", image, category_ids=IDS, tally=tally)
    assert [box["bbox"] for box in record["annotations"]] == [[8.0, 0.0, 9.0, 9.0]]  # one pixel
    assert tally.unknown == {"Car": 1, "tram": 1}
    assert tally.empty_boxes == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<annotation>",
        "not xml",
        "<annotation><object><name>car</name></object></annotation>",
        "<annotation><object><bndbox/></object></annotation>",
        f"<annotation>{object_xml('car', 1, 1, 9, float('nan'))}</annotation>",
        f"<annotation>{object_xml('car', 1, 1, 9, float('inf'))}</annotation>",
        "<annotation><size><width>x</width><height>2</height></size></annotation>",
        "<?xml version='1.0' encoding='no-such'?><annotation/>",
    ],
)
def test_broken_files_are_named(tmp_path: Path, image: Path, text: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ValueError, match=r"a\.xml: not a VOC annotation"):
        voc_record(tmp_path / "a.xml", image, category_ids=IDS)


def test_entities_are_refused(tmp_path: Path, image: Path) -> None:
    bomb = (
        "<!DOCTYPE a [<!ENTITY b 'car'>]><annotation><object><name>&b;</name></object></annotation>"
    )
    (tmp_path / "a.xml").write_text(bomb)
    with pytest.raises(ValueError, match="it has a document type"):
        voc_record(tmp_path / "a.xml", image, category_ids=IDS)


def test_an_image_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("text")
    write_xml(tmp_path / "a.xml")
    with pytest.raises(ValueError, match=r"a\.jpg: not a readable image"):
        voc_record(tmp_path / "a.xml", tmp_path / "a.jpg", category_ids=IDS)


def test_split_lines(tmp_path: Path) -> None:
    file = tmp_path / "train.txt"
    file.write_text("\ufeffb\r\n\n a 1\nc -1\nd  0\nsome name\n1\nx/e.png\t1\n", encoding="utf-8")
    assert read_split(file) == ["b", "a", "c", "d", "some name", "1", "x/e.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\na 1\n", r"more of \['a'\]"),
        ("a\na.jpg\n", r"more of \['a'\]"),
        ("../a\n", r"free of '\.\.', got '\.\./a'"),
        ("/etc/passwd\n", "must be relative"),
        ("\n\n", "at least one image"),
    ],
)
def test_bad_splits(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path / "train.txt")


def test_missing_split_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no split file .*train\.txt: check"):
        read_split(tmp_path / "train.txt")


def test_records_follow_the_split(tmp_path: Path) -> None:
    write_domain(tmp_path, "train", {"z": [("car", 1, 1, 9, 9)], "a": [], "m": []})
    found = voc_records(tmp_path, "train", category_ids=IDS, domain="fog")
    assert [record["image_id"] for record in found] == ["z", "a", "m"]
    assert {record["domain"] for record in found} == {"fog"}


def test_image_endings(tmp_path: Path) -> None:
    write_domain(tmp_path, "train", {"a": [], "b": [], "c": [], "d": []})
    images = tmp_path / "JPEGImages"
    (images / "a.jpg").rename(images / "a.JPG")
    for name, ending in {"b": "png", "c": "jpeg"}.items():
        (images / f"{name}.jpg").rename(images / f"{name}.{ending}")
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb.png\nc.jpg\nd.jpg\n")
    found = voc_records(tmp_path, "train", category_ids=IDS, domain="fog")
    names = [Path(record["file_name"]).name for record in found]
    assert names == ["a.JPG", "b.png", "c.jpeg", "d.jpg"]
    assert [record["image_id"] for record in found] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("lost", ["JPEGImages/b.jpg", "Annotations/b.xml"])
def test_one_missing_file_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lost: str
) -> None:
    write_domain(tmp_path, "train", {"a": [], "b": [], "c": []})
    (tmp_path / lost).unlink()
    with caplog.at_level(logging.WARNING):
        found = voc_records(tmp_path, "train", category_ids=IDS, domain="fog")
    assert [record["image_id"] for record in found] == ["a", "c"]
    (line,) = caplog.messages
    assert "skipped 1 of 3 images, missing: b" in line


def test_many_missing_files_are_an_error(tmp_path: Path) -> None:
    write_domain(tmp_path, "train", {name: [] for name in "abcdefghij"})
    for name in "bcdefgh":
        (tmp_path / f"JPEGImages/{name}.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"7 of 10 images .*\(b, c, d, e, f, …\)"):
        voc_records(tmp_path, "train", category_ids=IDS, domain="fog")


def test_a_small_share_may_be_missing() -> None:
    names = [f"{i}" for i in range(3)]
    Tally(missing=names).report("train.txt", 300)
    with pytest.raises(FileNotFoundError, match="3 of 299"):
        Tally(missing=names).report("train.txt", 299)
    with pytest.raises(FileNotFoundError, match="1 of 1"):
        Tally(missing=["0"]).report("train.txt", 1)


def test_what_is_skipped_is_logged_once_per_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [("tram", 1, 1, 9, 9), ("tram", 1, 1, 8, 8), ("Car", 1, 1, 9, 9), ("car", 9, 9, 2, 2)]
    write_domain(tmp_path, "train", {"a": odd, "b": odd})
    with caplog.at_level(logging.INFO, logger="sora_det.data.checks"):
        voc_records(tmp_path, "train", category_ids=IDS, domain="fog")
    classes, boxes = (r.message for r in caplog.records if r.name == "sora_det.data.checks")
    assert classes.endswith("skipped objects of other classes: tram 4, Car 2")
    assert boxes.endswith("skipped 2 boxes without area")
