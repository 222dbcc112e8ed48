import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sora_det.evaluation import Detections, GroundTruth
from sora_det.evaluation.saved import DomainData, read_domain, read_domains, write_domain


def domain(name: str = "dusk rainy", role: Any = "target") -> DomainData:
    draw = np.random.default_rng(0)
    return DomainData(
        domain=name,
        role=role,
        classes=("bus", "Fußgänger"),
        ids=tuple(f"img/{i}" for i in range(3)),
        files=tuple(f"{name}/{i}.jpg" for i in range(3)),
        root="somewhere",
        size=np.full((3, 2), (640.0, 480.0)),
        truth=GroundTruth(
            np.array([0, 2]), np.array([1, 0]), draw.random((2, 4)) * 90, np.array([True, False])
        ),
        detections=Detections(
            np.array([2, 0, 0], np.int32),
            np.array([0, 1, 1], np.int16),
            draw.random(3).astype(np.float32),
            draw.random((3, 4)).astype(np.float32),
        ),
    )


def assert_same(found: DomainData, wanted: DomainData) -> None:
    for name in ("domain", "role", "classes", "ids", "files", "root"):
        assert getattr(found, name) == getattr(wanted, name)
    np.testing.assert_array_equal(found.size, wanted.size)
    for name in ("image", "label", "box", "ignore"):
        np.testing.assert_array_equal(getattr(found.truth, name), getattr(wanted.truth, name))
    for name in ("image", "label", "score", "box"):
        np.testing.assert_array_equal(
            getattr(found.detections, name), getattr(wanted.detections, name)
        )
    assert found.detections.score.dtype == wanted.detections.score.dtype


def test_round_trip(tmp_path: Path) -> None:
    file = write_domain(domain(), tmp_path)
    assert file == tmp_path / "detections" / "dusk rainy.npz"
    assert_same(read_domain(file), domain())
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_no_image_and_no_box(tmp_path: Path) -> None:
    none = np.zeros(0, dtype=int)
    empty = replace(
        domain(),
        ids=(),
        files=(),
        size=np.zeros((0, 2)),
        truth=GroundTruth(none, none, np.zeros((0, 4)), none.astype(bool)),
        detections=Detections(none, none, np.zeros(0), np.zeros((0, 4))),
    )
    assert_same(read_domain(write_domain(empty, tmp_path)), empty)


def test_the_source_comes_first(tmp_path: Path) -> None:
    for name, role in (("fog", "target"), ("zenith", "source"), ("night", "target")):
        write_domain(domain(name, role), tmp_path)
    assert [data.domain for data in read_domains(tmp_path)] == ["zenith", "fog", "night"]
    assert read_domains(tmp_path / "nothing") == []


def test_no_pickle_is_written_or_read(tmp_path: Path) -> None:
    file = write_domain(domain(), tmp_path)
    with np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["ids"] = np.array([print], dtype=object)
    np.savez(file, **arrays)
    with pytest.raises(ValueError, match=r"dusk rainy\.npz holds no detections that can be read"):
        read_domain(file)


@pytest.mark.parametrize("keep", [0, 10, 400])
def test_truncated(tmp_path: Path, keep: int) -> None:
    file = write_domain(domain(), tmp_path)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match="score the run again"):
        read_domain(file)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    file = write_domain(domain(), tmp_path)
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo("score.npy")
    raw = bytearray(file.read_bytes())
    raw[info.header_offset + 200] ^= 1
    file.write_bytes(raw)
    with pytest.raises(ValueError, match="score the run again"):
        read_domain(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format 2, this version reads 1"),
        ({"role": "victim"}, "role is 'victim'"),
        ({"classes": ["bus"]}, "label must be 0..0, got 0..1"),
    ],
)
def test_headers_that_make_no_sense(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    file = write_domain(domain(), tmp_path)
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["header"] = np.array(json.dumps(json.loads(str(arrays["header"])) | change))
    np.savez(file, **arrays)
    with pytest.raises(ValueError, match=said):
        read_domain(file)


def test_arrays_of_another_shape(tmp_path: Path) -> None:
    file = write_domain(domain(), tmp_path)
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(file, **{**arrays, "box": arrays["box"][:, :3]})
    with pytest.raises(ValueError, match=r"box has type float32 and shape \(3, 3\)"):
        read_domain(file)


def test_data_that_contradict_themselves() -> None:
    good = domain()
    with pytest.raises(ValueError, match="lists an image twice"):
        replace(good, ids=("a", "b", "a"))
    with pytest.raises(ValueError, match="3 images, 2 files"):
        replace(good, files=("a", "b"))
    detections = replace(good.detections, image=np.array([0, 3, 1]))
    with pytest.raises(ValueError, match=r"image must be 0..2, got 0..3"):
        replace(good, detections=detections)
