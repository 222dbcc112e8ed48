import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from sora_det.engine import files
from sora_det.engine.files import append, damage, write_whole


def test_written_whole_with_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_whole(path, lambda file: file.write(b"hello"), checksum=True)
    assert path.read_bytes() == b"hello"
    assert damage(path) == ""
    path.write_bytes(b"hallo")
    assert damage(path) == "its checksum differs"
    path.unlink()
    assert damage(path) == "it is missing"


def test_a_file_without_a_checksum_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert damage(tmp_path / "a") == ""


def test_a_failure_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyError("in the middle")

    with pytest.raises(KeyError):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "the disk is full: make room"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EIO, "the disk reports a fault"),
    ],
)
def test_faults_in_words(
    tmp_path: Path, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"old")

    def refuse(_: object, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files._Hashed, "write", refuse)
    with pytest.raises(OSError, match=f"cannot write .*model.pth: {said}") as caught:
        write_whole(path, lambda file: torch.save({"a": torch.ones(9)}, file))
    assert caught.value.errno == code
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.pth"]


def test_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "wb", buffering=0) as full:
        hashed = files._Hashed(full)
        with pytest.raises((OSError, RuntimeError)) as caught:
            torch.save({"a": torch.ones(9)}, hashed)
    assert "the disk is full" in str(files._explained(Path("/dev/x"), caught.value))


def test_lines_that_cannot_be_added() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="cannot write /dev/full: the disk is full"):
        append(Path("/dev/full"), "a line\n")


def test_lines_that_are_added(tmp_path: Path) -> None:
    append(tmp_path / "a", "é\n")
    append(tmp_path / "a", "b\n")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "é\nb\n"


def test_a_vanished_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the folder has vanished"):
        append(tmp_path / "gone" / "a", "")
    with pytest.raises(OSError, match="the folder has vanished"):
        write_whole(tmp_path / "gone" / "a", lambda file: file.write(b""))
