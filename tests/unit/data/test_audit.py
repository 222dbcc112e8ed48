"""Every kind of problem is found where it is, by its name, and nowhere else."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sora_det.data import Benchmark, records
from sora_det.data.audit import KINDS, Finding
from tests.unit.data.annotation_trees import object_xml, write_xml
from tests.unit.data.audit_trees import (
    SPLITS,
    coco_weather,
    file_of,
    found,
    listed,
    look,
    picture,
    save,
    turned,
    voc_weather,
    xml,
)


@pytest.fixture
def voc(tmp_path: Path) -> Benchmark:
    return voc_weather(tmp_path)


# --- nothing wrong ----------------------------------------------------------------------


@pytest.mark.parametrize("write", [voc_weather, coco_weather])
def test_nothing_is_wrong(write: Callable[[Path], Benchmark], tmp_path: Path) -> None:
    benchmark = write(tmp_path)
    result = look(benchmark)
    assert result.findings == ()
    assert result.problems() == 0
    assert [(one.split, one.images) for one in result.splits] == [
        ("clear/train", 6),
        ("clear/test", 2),
        ("fog/test", 2),
    ]
    boxes = [sum(len(one["annotations"]) for one in records(benchmark, d, r)) for d, r in SPLITS]
    assert [one.boxes for one in result.splits] == boxes
    assert result.to_text().endswith("no problems\n")


def test_what_loads_as_a_user_would_expect_is_no_problem(voc: Benchmark) -> None:
    """Greyscale, 16 bits, alpha, another ending, a turned image, fractions, no size, no object."""
    images = file_of(voc, "JPEGImages")
    grey = picture(1)[..., 0]
    save(images / "a.jpg", grey)
    (images / "b.jpg").unlink()
    save(images / "b.png", picture(2)[..., 0].astype(np.uint16) * 257)
    (images / "d.jpg").unlink()
    save(images / "d.png", np.dstack([picture(3), grey]))
    (images / "e.jpg").unlink()
    cmyk = Image.fromarray(picture(4)).convert("CMYK")
    cmyk.save(images / "e.jpeg")
    turned(voc, 6)
    xml(voc, "f", ("car", 0, 0, 64.9, 48), size="")  # one pixel out: a file that counts from 0
    xml(voc, "e")
    listed(voc, "train", "a\nb\nc 1\nd.jpg\ne -1\n\nf\n")
    assert found(voc) == []
    stated = "<size><width>48</width><height>64</height></size>"  # as it is shown
    xml(voc, "c", ("car", 1, 30, 40, 60), size=stated)
    assert found(voc) == []


# --- each kind by itself ----------------------------------------------------------------

TRAIN = "clear/train"


def cut(benchmark: Benchmark, name: str = "c.jpg") -> None:
    file = file_of(benchmark, f"JPEGImages/{name}")
    file.write_bytes(file.read_bytes()[:-200])


def link_out(benchmark: Benchmark) -> None:
    outside = benchmark.root.parent / "outside.jpg"
    save(outside, picture(5))
    file_of(benchmark, "JPEGImages/c.jpg").unlink()
    file_of(benchmark, "JPEGImages/c.jpg").symlink_to(outside)


def copy_image(benchmark: Benchmark, old: str, new: str) -> None:
    shutil.copy(benchmark.root / old, benchmark.root / new)


def near_image(benchmark: Benchmark) -> None:
    """An image of the training split: smaller, brighter, of poor quality."""
    image = Image.open(file_of(benchmark, "JPEGImages/c.jpg"))
    smaller = np.asarray(image.resize((60, 45)), dtype=np.float64)
    save(
        benchmark.root / "fog/JPEGImages/i.jpg",
        np.clip(smaller * 1.1 + 8, 0, 255).astype(np.uint8),
        quality=40,
    )
    write_xml(benchmark.root / "fog/Annotations/i.xml")


NO_BOX = "<object><name>car</name></object>"
NO_NAME = object_xml("", 1, 1, 9, 9)
Damage = Callable[[Benchmark], object]

VOC_CASES: dict[str, tuple[Damage, list[tuple[str, str, str]]]] = {
    "no folder": (
        lambda b: shutil.rmtree(b.root / "fog"),
        [("missing-folder", "fog/test", "")],
    ),
    "no split file": (
        lambda b: file_of(b, "ImageSets/Main/test.txt").unlink(),
        [("missing-split", "clear/test", "")],
    ),
    "a split that is no text": (
        lambda b: file_of(b, "ImageSets/Main/test.txt").write_bytes(b"\xff\xfe\xfa"),
        [("unreadable-split", "clear/test", "")],
    ),
    "an empty split": (
        lambda b: listed(b, "test", "\n \n"),
        [("empty-split", "clear/test", "")],
    ),
    "a name that climbs": (
        lambda b: listed(b, "test", "g\nh\n../../fog/JPEGImages/i\n/etc/passwd\n"),
        [
            ("bad-name", "clear/test", "../../fog/JPEGImages/i"),
            ("bad-name", "clear/test", "/etc/passwd"),
        ],
    ),
    "a link that leads out": (link_out, [("bad-name", TRAIN, "c")]),
    "an id twice": (
        lambda b: listed(b, "test", "g\nh\ng.jpg\n"),
        [("duplicate-id", "clear/test", "g")],
    ),
    "no image": (
        lambda b: file_of(b, "JPEGImages/c.jpg").unlink(),
        [("missing-image", TRAIN, "c")],
    ),
    "no annotation": (
        lambda b: file_of(b, "Annotations/c.xml").unlink(),
        [("missing-annotation", TRAIN, "c")],
    ),
    "half an image": (cut, [("unreadable-image", TRAIN, "c")]),
    "no bytes": (
        lambda b: file_of(b, "JPEGImages/c.jpg").write_bytes(b""),
        [("unreadable-image", TRAIN, "c")],
    ),
    "half an annotation": (
        lambda b: file_of(b, "Annotations/c.xml").write_text("<annotation><object>"),
        [("unreadable-annotation", TRAIN, "c")],
    ),
    "entities": (
        lambda b: file_of(b, "Annotations/c.xml").write_text(
            "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>"
        ),
        [("unreadable-annotation", TRAIN, "c")],
    ),
    "objects without box, name, number": (
        lambda b: xml(b, "c", NO_BOX, NO_NAME, ("car", 1, 1, "x", 9), ("car", 1, 1, 9, "nan")),
        [("unreadable-annotation", TRAIN, "c")] * 4,
    ),
    "another size": (
        lambda b: xml(b, "c", size="<size><width>640</width><height>480</height></size>"),
        [("size-differs", TRAIN, "c")],
    ),
    "a half turn": (lambda b: turned(b, 3), [("uncertain-orientation", TRAIN, "c")]),
    "a quarter turn without a size": (
        lambda b: (turned(b, 8), xml(b, "c", size="")),
        [("uncertain-orientation", TRAIN, "c")],
    ),
    "other classes": (
        lambda b: xml(b, "c", ("tram", 1, 1, 9, 9), ("tram", 2, 2, 9, 9), ("Car", 1, 1, 2, 2)),
        [("unknown-class", TRAIN, "c")] * 2,
    ),
    "inverted": (
        lambda b: xml(b, "c", ("car", 9, 1, 8, 9), ("car", 1, 9, 9, 1)),
        [("inverted-box", TRAIN, "c")] * 2,
    ),
    "no area": (
        lambda b: xml(b, "c", ("car", 9, 1, 9, 9), ("car", 1, 9, 9, 9)),
        [("empty-box", TRAIN, "c")] * 2,
    ),
    "outside": (
        lambda b: xml(b, "c", ("car", -1, 1, 9, 9), ("car", 1, 1, 66, 9), ("car", 70, 1, 90, 9)),
        [("box-outside", TRAIN, "c")] * 3,
    ),
    "outside, without a size": (
        lambda b: xml(b, "c", ("car", 1, 1, 9, 50), size=""),
        [("box-outside", TRAIN, "c")],
    ),
    "outside of a turned image": (
        lambda b: (turned(b, 6), xml(b, "c", ("car", 1, 1, 60, 9), size=""))[0],
        [("uncertain-orientation", TRAIN, "c"), ("box-outside", TRAIN, "c")],
    ),
    "the same file twice": (
        lambda b: copy_image(b, "clear/JPEGImages/c.jpg", "clear/JPEGImages/e.jpg"),
        [("repeated-image", TRAIN, "e")],
    ),
    "trained and tested on": (
        lambda b: listed(b, "test", "g\nh\nc\n"),
        [("train-test-same", "clear/test", "c")],
    ),
    "trained and tested on, and missing": (
        lambda b: (listed(b, "test", "g\nh\nc\n"), file_of(b, "JPEGImages/c.jpg").unlink()),
        [
            ("missing-image", TRAIN, "c"),
            ("missing-image", "clear/test", "c"),
            ("train-test-same", "clear/test", "c"),
        ],
    ),
    "a copy in another domain": (
        lambda b: copy_image(b, "clear/JPEGImages/c.jpg", "fog/JPEGImages/i.jpg"),
        [("train-test-copy", "fog/test", "i")],
    ),
    "alike in another domain": (near_image, [("train-test-near", "fog/test", "i")]),
}


@pytest.mark.parametrize("case", VOC_CASES)
def test_one_problem(voc: Benchmark, case: str) -> None:
    damage, wanted = VOC_CASES[case]
    damage(voc)
    assert found(voc) == wanted


def test_every_kind_is_tested() -> None:
    cases = [*VOC_CASES.values()]
    assert {kind for _, wanted in cases for kind, *_ in wanted} == set(KINDS)


# --- all at once ------------------------------------------------------------------------


def test_all_problems_at_once(voc: Benchmark) -> None:
    cut(voc, "a.jpg")
    xml(voc, "b", ("car", 9, 1, 8, 9), ("tram", 1, 1, 5, 5), ("car", 1, 1, 90, 9))
    file_of(voc, "Annotations/c.xml").write_text("<")
    file_of(voc, "JPEGImages/d.jpg").unlink()
    file_of(voc, "ImageSets/Main/test.txt").unlink()
    copy_image(voc, "clear/JPEGImages/e.jpg", "fog/JPEGImages/i.jpg")
    assert found(voc) == [
        ("missing-split", "clear/test", ""),
        ("missing-image", TRAIN, "d"),
        ("unreadable-image", TRAIN, "a"),
        ("unreadable-annotation", TRAIN, "c"),
        ("unknown-class", TRAIN, "b"),
        ("inverted-box", TRAIN, "b"),
        ("box-outside", TRAIN, "b"),
        ("train-test-copy", "fog/test", "i"),
    ]


def test_only_train_against_test_is_compared(voc: Benchmark) -> None:
    copy_image(voc, "clear/JPEGImages/g.jpg", "fog/JPEGImages/i.jpg")  # two domains to test on
    assert found(voc) == []


def test_a_split_for_validation_is_looked_at(voc: Benchmark) -> None:
    listed(voc, "val", "a\n")
    source = replace(voc.source, splits={**voc.source.splits, "val": "val"})
    assert found(replace(voc, source=source)) == [("train-test-same", "clear/val", "a")]


# --- the report -------------------------------------------------------------------------


def test_the_table(voc: Benchmark) -> None:
    xml(voc, "b", *[("tram", 1, 1, 5, 5)] * 2)
    xml(voc, "c", *[("car", 9, 1, 8, 9)] * 5)
    result = look(voc)
    assert result.counts() == {"unknown-class": 1, "inverted-box": 5}
    assert (result.problems(), result.problems(["inverted-box"])) == (6, 1)
    text = result.to_text(first=2, allowed=["inverted-box"])
    assert "clear/train       6     13" in text  # 2 in each of 4 images, 5 in c, none in b
    assert (
        f"unknown-class: 1 - {KINDS['unknown-class']}\n    clear/train b 'tram', objects: 2" in text
    )
    assert "inverted-box: 5 (allowed) - " in text
    assert text.count("clear/train c 'car' [8, 0, 8, 9]") == 2
    assert "… and 3 more" in text
    assert text.endswith("\n\n1 problems, 5 allowed\n")


def test_json_holds_everything(voc: Benchmark) -> None:
    xml(voc, "c", *[("car", 9, 1, 8, 9)] * 5)
    content = json.loads(look(voc).to_json())
    assert (content["format"], content["version"]) == ("sora_det.audit", 1)
    assert content["counts"] == {"inverted-box": 5}
    assert len(content["findings"]) == 5
    assert content["findings"][0] == {
        "kind": "inverted-box",
        "split": TRAIN,
        "image": "c",
        "detail": "'car' [8, 0, 8, 9]",
    }
    assert content["splits"][0] == {"split": TRAIN, "images": 6, "boxes": 15}


def test_names_do_not_command_a_terminal() -> None:
    assert "\x1b" not in str(Finding("unknown-class", "a/train", "\x1b[2J", "x"))


@pytest.mark.parametrize(("name", "value"), [("distance", -1), ("distance", 257), ("workers", 0)])
def test_numbers_out_of_range(voc: Benchmark, name: str, value: int) -> None:
    with pytest.raises(
        ValueError, match=r"distance must be in 0\.\.256 and workers at least 1, got"
    ):
        look(voc, **{name: value})


def test_threads_change_nothing(voc: Benchmark) -> None:
    cut(voc)
    assert look(voc, workers=1) == look(voc, workers=4)
