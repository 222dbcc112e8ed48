"""What is promised of a file before a library reads it, and of a name before it is shown."""

import io
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sora_det.untrusted.archive import members
from sora_det.untrusted.pictures import open_picture
from sora_det.untrusted.tensors import read_tensors
from sora_det.untrusted.text import reason, shown

WEIGHT = torch.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("street 7, Fußgänger, 日本 ±", "street 7, Fußgänger, 日本 ±"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\x9b2J", "\\x9b2J"),
        ("\ud800", "\\ud800"),
        ("", ""),
    ],
)
def test_a_text_is_fit_to_show(text: str, wanted: str) -> None:
    assert shown(text) == wanted
    assert shown(text).isprintable()
    shown(text).encode()


def test_a_reason_is_short() -> None:
    assert reason(ValueError("no\nway")) == "no\\nway"
    assert reason(KeyError()) == "KeyError"
    assert len(reason("\x1b" * 5000)) == 1000


# --- zip files ---------------------------------------------------------------------------


def archive(form: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", form) as new:
        new.writestr(zipfile.ZipInfo("a/b"), b"12345", form)
        new.writestr(zipfile.ZipInfo("c"), b"6", form)
    return stream.getvalue()


def test_members_and_their_sizes(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(archive())
    assert members(file) == {"a/b": 5, "c": 1}
    torch.save({"w": WEIGHT}, file)  # with the records of 64 bits
    assert members(file)["a/data/0"] == 48
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    assert members(tmp_path / "a.npz") == {"x.npy": 152}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(zipfile.ZIP_DEFLATED), "compressed"),
        (archive() + b"\0", "does not end as a zip file does"),
        (archive() + archive(), "its list of members does not end it"),
        (archive()[:50], "does not end as a zip file does"),
        (b"", "too short"),
        (archive().replace(b"\x05\0\0\0\x05\0\0\0", b"\x05\0\0\0\xf5\0\0\0"), "claim 246 bytes"),
    ],
    ids=["compressed", "more behind", "two", "cut off", "empty", "claims more"],
)
def test_archives_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        members(tmp_path / "a.zip")


def test_names_that_differ_in_their_case_alone(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as new:
        new.writestr("a", b"1")
        new.writestr("A", b"2")
    with pytest.raises(ValueError, match="two members of one name"):
        members(tmp_path / "a.zip")


# --- tensors -----------------------------------------------------------------------------

PLAIN = {
    "tensors": OrderedDict(
        weight=WEIGHT,
        part=WEIGHT[1:, ::2],
        turned=WEIGHT.T,
        half=WEIGHT.half(),
        brain=WEIGHT.bfloat16(),
        count=torch.tensor(3),
        flag=WEIGHT > 2,
        trained=nn.Parameter(WEIGHT),
        none=torch.zeros(0),
    ),
    "values": {"lr": 1e-3, "betas": (0.9, 0.999), "step": 2**70, "name": "é", "on": True, 5: None},
    "size": torch.Size([2, 3]),
    "device": torch.device("cpu"),
    "type": torch.float16,
    "set": {1, 2},
}


@pytest.mark.parametrize("new", [True, False], ids=["zip file", "before 1.6"])
def test_plain_values_come_back(tmp_path: Path, new: bool) -> None:
    torch.save(PLAIN, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    found: Any = read_tensors(tmp_path / "a.pth")
    assert {key: found[key] for key in found if key != "tensors"} == {
        key: PLAIN[key] for key in PLAIN if key != "tensors"
    }
    for name, value in PLAIN["tensors"].items():
        assert torch.equal(found["tensors"][name], value)
        assert found["tensors"][name].dtype == value.dtype


def test_a_whole_training(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "iteration": 3}
    torch.save(state, tmp_path / "a.pth")
    found: Any = read_tensors(tmp_path / "a.pth")
    torch.testing.assert_close(found, state)
    assert found["model"]._metadata == state["model"]._metadata  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (bytearray(9), "it asks for __builtin__.bytearray"),
        (Path("a"), "it asks for pathlib"),
        (np.float64(1), "it asks for numpy"),
        (torch.zeros(2).to_sparse(), "it asks for torch._utils._rebuild_sparse_tensor"),
        (torch.zeros(2, device="meta"), "it asks for torch._utils._rebuild_meta_tensor"),
    ],
)
def test_other_values_are_refused(tmp_path: Path, value: Any, message: str) -> None:
    torch.save({"a": value}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message):
        read_tensors(tmp_path / "a.pth")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "a.pth")


# --- pictures ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "PPM", "WEBP"])
def test_pictures_of_the_usual_formats(tmp_path: Path, form: str) -> None:
    Image.new("RGB", (5, 4)).save(tmp_path / "a", form)
    with open_picture(tmp_path / "a") as image:
        assert image.size == (5, 4)


def test_pictures_of_other_formats(tmp_path: Path) -> None:
    for form in ("EPS", "TGA", "ICO", "PCX"):
        Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg", form)
        with pytest.raises(OSError, match="cannot identify"), open_picture(tmp_path / "a.jpg"):
            pass


def test_pictures_that_are_too_large(tmp_path: Path) -> None:
    Image.new("1", (12000, 12000)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="12000x12000 pixels"), open_picture(tmp_path / "a.png"):
        pass
