"""Images and videos are found by names that do not collide; videos are read."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from sora_det.data.media import RATE, Media, find_media, open_film


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def names(found: list[Media]) -> list[str]:
    return [one.name for one in found]


def test_folders_are_searched(tmp_path: Path) -> None:
    wanted = ["a.JPG", "b/c.png", "b/d.mp4"]
    others = ["notes.txt", ".hidden.jpg", ".cache/e.jpg", "out/pictures/a.JPG"]
    touch(*(tmp_path / name for name in wanted + others))
    found = find_media([tmp_path], outside=tmp_path / "out")
    assert names(found) == wanted
    assert [one.video for one in found] == [False, False, True]
    assert found[1].file == tmp_path / "b" / "c.png"


def test_names_do_not_collide(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.jpg", tmp_path / "b" / "1.jpg", tmp_path / "b" / "2.jpg")
    assert names(find_media([tmp_path / "b" / "1.jpg", tmp_path / "b"])) == ["1.jpg", "2.jpg"]
    files = [tmp_path / "a" / "1.jpg", *(tmp_path / "b").iterdir()]
    assert sorted(names(find_media(files))) == ["a/1.jpg", "b/1.jpg", "b/2.jpg"]
    assert names(find_media([tmp_path / "a", tmp_path / "b"])) == ["a/1.jpg", "b/1.jpg", "b/2.jpg"]


def test_wrong_inputs(tmp_path: Path) -> None:
    touch(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*none\.jpg"):
        find_media([tmp_path / "none.jpg"])
    with pytest.raises(ValueError, match=r"a\.txt is neither an image nor a video"):
        find_media([tmp_path / "a.txt"])
    with pytest.raises(ValueError, match="no image and no video in"):
        find_media([tmp_path])


def test_video(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 12.5, (64, 48))
    for level in (0, 120, 240):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[..., 2] = level  # red, last in OpenCV
        writer.write(frame)
    writer.release()
    with open_film(file) as film:
        assert (film.rate, film.length) == (pytest.approx(12.5), 3)
        frames = list(film.frames)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 3
    for frame, level in zip(frames, (0, 120, 240), strict=True):
        assert abs(int(frame[20, 20, 0]) - level) < 12
        assert frame[20, 20, 2] < 12
    assert RATE > 0


def test_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with (
        pytest.raises(ValueError, match=r"a\.mp4: not a readable video"),
        open_film(tmp_path / "a.mp4") as film,
    ):
        list(film.frames)
