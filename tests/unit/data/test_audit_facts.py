"""What is found out about a file, that copies look alike, and that facts are kept."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sora_det.data import Benchmark, load_benchmark
from sora_det.data.audit import audit, cache, duplicates, examine, run
from sora_det.data.audit.cache import Facts, cache_file, read_cache, write_cache
from sora_det.data.audit.duplicates import DISTANCE, nearest
from sora_det.data.audit.examine import Picture, Sheet, Thing, examine_picture, look
from sora_det.data.images import BadImageError, read_image
from sora_det.data.toy import toy_image

STAMP = (17, 4)
PICTURE = Picture("", "ab", 64, 48, 6, "00ff")
SHEET = Sheet("", (64, 48), (Thing("car", (0.0, 1.5, 2.0, 3.0)), Thing("car", None, "why")))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def differing(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def grey(weather: str, index: int) -> np.ndarray:
    image, _ = toy_image(weather, "train", index, size=128)
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


# --- looks ------------------------------------------------------------------------------

COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "poor JPEG": lambda g: cv2.imdecode(
        cv2.imencode(".jpg", g, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 0
    ),
    "half the size": lambda g: cv2.resize(g, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "twice the size": lambda g: cv2.resize(g, None, fx=2, fy=2),
    "brighter": lambda g: np.clip(g * 1.15 + 8, 0, 255).astype(np.uint8),
    "noise": lambda g: np.clip(g + np.random.default_rng(0).normal(0, 4, g.shape), 0, 255).astype(
        "u1"
    ),
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("weather", ["daytime-clear", "daytime-foggy", "night-rainy"])
def test_copies_look_alike(weather: str, copy: str) -> None:
    for index in range(3):
        image = grey(weather, index)
        assert differing(look(image), look(COPIES[copy](image))) <= DISTANCE


def test_other_images_do_not() -> None:
    looks = [look(grey("daytime-foggy", index)) for index in range(8)]
    pairs = [differing(a, b) for i, a in enumerate(looks) for b in looks[:i]]
    assert min(pairs) > 3 * DISTANCE
    assert len(looks[0]) == 64


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_flat_image_has_no_look(level: int) -> None:
    assert look(np.full((40, 50), level, np.uint8)) == ""


def test_nearest_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    looks, among = rng.integers(0, 256, (9, 32), np.uint8), rng.integers(0, 256, (30, 32), np.uint8)
    among[23] = looks[4]
    bits = np.unpackbits(looks[:, None] ^ among[None], axis=2).sum(axis=2)  # (9, 30)
    index, count = nearest(looks, among)
    assert count.tolist() == bits.min(axis=1).tolist()
    assert bits[np.arange(9), index].tolist() == count.tolist()
    assert (index[4], count[4]) == (23, 0)


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_nearest_of_nothing(n: int, m: int) -> None:
    index, count = nearest(np.zeros((n, 32), np.uint8), np.zeros((m, 32), np.uint8))
    assert index.tolist() == [-1] * n
    assert count.tolist() == [257] * n


# --- files ------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 1.0])
def test_a_picture_is_readable_where_training_can_read_it(
    tmp_path: Path, ending: str, share: float
) -> None:
    """JPEGs are decoded at a fraction of their size, which must find the same faults."""
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    file = tmp_path / f"a.{ending}"
    Image.fromarray(noise).save(file)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    try:
        read_image(file)
    except BadImageError:
        readable = False
    else:
        readable = True
    found = examine_picture(file)
    assert readable == (share == 1.0)
    assert (found.problem == "") == readable
    if readable:
        assert (found.width, found.height, found.orientation) == (400, 300, 1)
        assert len(found.digest) == len(found.look) == 64


def test_a_progressive_jpeg(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", progressive=True)
    assert examine_picture(tmp_path / "a.jpg").problem == ""
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) * 3 // 4])
    assert "truncated" in examine_picture(tmp_path / "a.jpg").problem


def test_a_jpeg_and_its_copy_as_png_look_alike(tmp_path: Path) -> None:
    image, _ = toy_image("daytime-clear", "train", 0, size=512)
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=90)
    jpg, png = (examine_picture(tmp_path / f"a.{ending}") for ending in ("jpg", "png"))
    assert jpg.digest != png.digest
    assert differing(jpg.look, png.look) <= DISTANCE // 2


# --- the cache --------------------------------------------------------------------------


def test_facts_come_back(tmp_path: Path) -> None:
    facts: dict[str, tuple[tuple[int, int], Facts]] = {
        "a.jpg": (STAMP, PICTURE),
        "b.xml": (STAMP, SHEET),
        "c.xml": (STAMP, Sheet("broken")),
        "\udcff.jpg": (STAMP, Picture("no image")),  # a name that is not UTF-8
    }
    file = tmp_path / "new" / "facts.json"
    write_cache(file, facts)
    assert read_cache(file) == facts
    assert [one.name for one in file.parent.iterdir()] == ["facts.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"files": {}}', "[" * 100_000, '{"maker": 1, "files": []}']
)
def test_a_damaged_cache_is_not_used(tmp_path: Path, text: str) -> None:
    (tmp_path / "facts.json").write_text(text)
    assert read_cache(tmp_path / "facts.json") == {}


@pytest.mark.parametrize("row", [[], [1, 2], [1, 2, "sheet", 3], [1, 2, "sheet", "", None, [1]], 5])
def test_damaged_rows_are_not_used(tmp_path: Path, row: object) -> None:
    file = tmp_path / "facts.json"
    file.write_text(json.dumps({"maker": cache._MAKER, "files": {"a": row}}))
    assert read_cache(file) == {}


def test_facts_of_another_release_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cache(tmp_path / "facts.json", {"a.jpg": (STAMP, PICTURE)})
    monkeypatch.setitem(cache._MAKER, "version", examine.VERSION + 1)
    assert read_cache(tmp_path / "facts.json") == {}


def test_writers_do_not_disturb_readers(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    facts = {f"{i}.jpg": (STAMP, PICTURE) for i in range(300)}
    write_cache(file, facts)
    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write_cache, file, facts) for _ in range(20)]
        seen = [read_cache(file) for _ in range(20)]
        assert [one.result(timeout=60) for one in writing] == [None] * 20
    assert all(one == facts for one in seen)
    assert [one.name for one in tmp_path.iterdir()] == ["facts.json"]


def test_a_cache_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    write_cache(tmp_path / "file" / "facts.json", {})
    assert "not written" in caplog.text


# --- an audit with a cache --------------------------------------------------------------


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are looked at."""
    names: list[str] = []

    def picture(file: Path) -> Picture:
        names.append(file.name)
        return examine_picture(file)

    monkeypatch.setattr(run, "examine_picture", picture)
    return names


@pytest.fixture
def benchmark(small_weather: Path) -> Benchmark:
    return load_benchmark(small_weather)


def test_only_what_has_changed_is_looked_at_again(
    benchmark: Benchmark, examined: list[str]
) -> None:
    first = audit(benchmark, progress=False)
    assert (first.files, first.cached, len(examined)) == (14, 0, 7)
    assert [file.name for file in cache_file(benchmark.root).parent.iterdir()]
    examined.clear()
    again = audit(benchmark, progress=False)
    assert (again.files, again.cached, examined) == (14, 14, [])
    assert again.findings == first.findings

    file = benchmark.root / "clear" / "JPEGImages" / "d.jpg"
    file.write_bytes(file.read_bytes()[:-9])  # another size
    os.utime(benchmark.root / "clear" / "JPEGImages" / "e.jpg", ns=(1, 1))  # another time
    changed = audit(benchmark, progress=False)
    assert (changed.cached, sorted(examined)) == (12, ["d.jpg", "e.jpg"])
    assert ("unreadable-image", "d") in [(one.kind, one.image) for one in changed.findings]


def test_without_a_cache_nothing_is_kept(benchmark: Benchmark, examined: list[str]) -> None:
    audit(benchmark, cache=False, progress=False)
    audit(benchmark, cache=False, progress=False)
    assert len(examined) == 14
    assert not cache_file(benchmark.root).exists()


def test_a_user_without_a_home_has_no_cache(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it does without one
    assert cache_file(benchmark.root) is None
    assert audit(benchmark, progress=False).cached == 0


def test_a_lost_file_is_lost_although_it_was_known(benchmark: Benchmark) -> None:
    audit(benchmark, progress=False)
    (benchmark.root / "clear" / "JPEGImages" / "d.jpg").unlink()
    found = audit(benchmark, progress=False)
    assert ("missing-image", "d") in [(one.kind, one.image) for one in found.findings]


def test_an_interrupted_audit_keeps_what_it_knows(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(file: Path) -> Picture:
        if file.name == "e.jpg":
            raise KeyboardInterrupt
        return examine_picture(file)

    monkeypatch.setattr(run, "_CHUNK", 1)
    monkeypatch.setattr(run, "examine_picture", stop)
    with pytest.raises(KeyboardInterrupt):
        audit(benchmark, progress=False, workers=1)
    assert len(read_cache(cache_file(benchmark.root))) >= 6
