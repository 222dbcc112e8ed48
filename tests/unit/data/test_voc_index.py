"""What annotation files say is kept until one of them changes, and only then."""

import logging
import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sora_det.data import load_benchmark, records, voc_index
from sora_det.data.records import Records
from sora_det.data.voc_index import voc_records
from tests.unit.data.annotation_trees import object_xml, write_domain, write_image, write_xml

SIZE = "<size><width>32</width><height>24</height></size>"
CAR = ("car", 1, 1, 9, 9)
ODD = [("tram", 1, 1, 2, 2), ("car", 9, 9, 2, 2), object_xml("caf\u00e9", 1, 1, 2, 2)]
IDS = {"car": 0, "person": 1, "caf\u00e9": 1}


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of caches; files count as settled at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(voc_index, "_SETTLED", -1e15)
    return tmp_path / "cache" / "sora_det" / "index"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two plain files, one without a size, one with letters beyond ASCII."""
    place = tmp_path / "clear"
    write_domain(place, "train", {"a": [CAR], "b": [], "c": [CAR, *ODD[:2]], "d": ODD})
    write_xml(place / "Annotations" / "a.xml", [CAR, ("person", 2, 2, 5.5, 6)], size=SIZE)
    write_xml(place / "Annotations" / "c.xml", [CAR, *ODD[:2]], size=SIZE)
    return place


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many annotations were read, each time."""
    counts: list[int] = []
    whole = voc_index._read

    def counted(files: voc_index.Files, *args: object) -> object:
        counts.append(len(files.names))
        return whole(files, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(voc_index, "_read", counted)
    return counts


def load(folder: Path, **options: object) -> Records:
    given = {"category_ids": IDS, "domain": "clear", "cache": True} | options
    return voc_records(folder, "train", **given)  # type: ignore[arg-type]


def test_the_second_time_no_annotation_is_read(
    folder: Path, read: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="sora_det"):
        first = load(folder)
        said = caplog.messages[:]
        caplog.clear()
        assert load(folder) == first == load(folder, cache=False)
    assert read == [4, 4]
    assert caplog.messages[: len(said)] == said  # what was left out is logged again
    assert any("tram 2" in message for message in said)
    assert [len(one["annotations"]) for one in first] == [2, 0, 1, 1]
    assert load(folder, domain="fog")[0]["domain"] == "fog"
    assert len(read) == 2


def same_time_and_size(folder: Path) -> None:
    file = folder / "Annotations" / "a.xml"
    before = file.stat()
    file.write_text(file.read_text().replace("<xmax>9", "<xmax>7"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def another_image(folder: Path) -> None:
    Image.new("RGB", (20, 10)).save(folder / "JPEGImages" / "b.jpg")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a box": lambda f: write_xml(f / "Annotations/a.xml", [("car", 1, 1, 8, 8)], size=SIZE),
    "time and size as before": same_time_and_size,
    "another image without a size": another_image,
    "an image that comes first": lambda f: write_image(f / "JPEGImages/e.jpg"),
    "another order": lambda f: (f / "ImageSets/Main/train.txt").write_text("b\na\nc\nd\n"),
    "fewer": lambda f: (f / "ImageSets/Main/train.txt").write_text("a\nb\nc\n"),
    "an image is lost": lambda f: (f / "JPEGImages/c.jpg").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_seen(folder: Path, read: list[int], change: str) -> None:
    if change == "an image that comes first":
        write_domain(folder, "train", {"e": [CAR]})
        (folder / "JPEGImages/e.jpg").rename(folder / "JPEGImages/e.png")
    before = load(folder)
    time.sleep(0.02)  # the clock of files goes in steps
    CHANGES[change](folder)
    after = load(folder)
    assert after != before
    assert after == load(folder, cache=False)
    assert len(read) == 3


def test_other_classes_have_a_cache_of_their_own(folder: Path, read: list[int]) -> None:
    one, other = load(folder), load(folder, category_ids={"person": 0})
    assert [len(record["annotations"]) for record in other] == [1, 0, 0, 0]
    assert (load(folder), load(folder, category_ids={"person": 0})) == (one, other)
    assert len(read) == 2


def test_what_has_just_changed_is_not_kept(
    folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another change in the same step of the clock would leave time and size as they are."""
    monkeypatch.setattr(voc_index, "_SETTLED", 1e12)
    load(folder)
    assert not store.exists()


def test_it_can_be_turned_off(folder: Path, store: Path, small_weather: Path) -> None:
    load(folder, cache=False)
    records(load_benchmark(small_weather, cache=False), "fog", "test")
    assert not store.exists()
    records(load_benchmark(small_weather), "fog", "test")
    assert len([*store.iterdir()]) == 1


def test_a_split_with_malformed_files_is_not_kept(folder: Path, store: Path) -> None:
    (folder / "Annotations" / "b.xml").write_text("<annotation>")
    for _ in range(2):
        assert [one["image_id"] for one in load(folder, lenient=True)] == ["a", "c", "d"]
    with pytest.raises(ValueError, match=r"b\.xml: not a VOC annotation"):
        load(folder)
    assert not store.exists()


def rewritten(**changes: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        with np.load(file) as archive:
            content = {name: archive[name] for name in archive.files}
        np.savez(file, **content | {name: edit(content[name]) for name, edit in changes.items()})

    return change


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda f: f.write_bytes(b""),
    "cut off": lambda f: f.write_bytes(f.read_bytes()[:-100]),
    "a pickle": lambda f: f.write_bytes(pickle.dumps([1])),
    "one array": lambda f: np.save(f.open("wb"), np.ones(3)),
    "a changed byte": lambda f: f.write_bytes(f.read_bytes().replace(b"clear", b"cleer")),
    "pickled objects": rewritten(box=lambda a: a.astype(object)),
    "boxes without numbers": rewritten(box=lambda a: a * np.nan),
    "fewer labels": rewritten(label=lambda a: a[:-1]),
    "ends beyond the boxes": rewritten(box_end=lambda a: a + 9),
    "ends that fall": rewritten(box_end=lambda a: a[::-1].copy()),
    "other kinds of numbers": rewritten(size=lambda a: a.astype(float)),
    "loose ones beyond": rewritten(loose=lambda a: a + 99),
    "unknown labels": rewritten(label=lambda a: a + 9),
    "sizes of 0": rewritten(size=lambda a: a * 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_not_used(
    folder: Path, store: Path, read: list[int], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = load(folder)
    (file,) = store.iterdir()
    DAMAGES[damage](file)
    with caplog.at_level(logging.WARNING):
        assert load(folder) == wanted
        assert load(folder) == wanted
    assert read == [4, 4]  # the second repairs it
    assert "cannot be read" in caplog.text


def test_processes_may_read_and_write_at_once(folder: Path, store: Path) -> None:
    wanted = load(folder, cache=False)
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(load, folder) for _ in range(24)]
        assert all(one.result(timeout=60) == wanted for one in found)
    (file,) = store.iterdir()
    assert file.suffix == ".npz"


# --- records ----------------------------------------------------------------------------


def test_records_are_a_sequence(folder: Path) -> None:
    found = load(folder)
    assert [one["image_id"] for one in found] == [*"abcd"]
    assert found[-1] == found[3]
    assert found[1:3] == [found[1], found[2]]
    with pytest.raises(IndexError):
        found[4]
    assert pickle.loads(pickle.dumps(found)) == found
    found[0]["annotations"].clear()
    assert len(found[0]["annotations"]) == 2


def test_names_beyond_ascii_and_in_folders(tmp_path: Path) -> None:
    names = ("straße", "sub/a", "sub/b.png", "c")
    write_domain(tmp_path, "train", {name: [CAR] for name in ("straße", "sub/a", "sub/b", "c")})
    (tmp_path / "JPEGImages/sub/b.jpg").rename(tmp_path / "JPEGImages/sub/b.png")
    (tmp_path / "ImageSets/Main/train.txt").write_text("\n".join(names), encoding="utf-8")
    for _ in range(2):
        found = load(tmp_path)
        assert [one["image_id"] for one in found] == ["straße", "sub/a", "sub/b", "c"]
        assert all(Path(one["file_name"]).is_file() for one in found)
