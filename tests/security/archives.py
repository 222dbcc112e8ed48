"""Zip files and safetensors files that claim more than they hold, or contradict themselves."""

import io
import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from sora_det.adapt import AdaptationError, import_peft, read_adapter
from sora_det.adapt.peft_format import WEIGHTS
from sora_det.adapt.start_file import read_start
from sora_det.backbones.weights import read_state
from sora_det.engine.checkpoint import read_checkpoint
from sora_det.evaluation.saved import read_domain
from tests.fuzz.weights import write_peft

from .case import Case, each, written
from .pickles import saved, unzipped, zipped

PTH = {
    "checkpoints": ("model_final.pth", read_checkpoint),
    "weights": ("weights.pth", read_state),
}
NPZ = {"detections": ("fog.npz", read_domain)}
MUCH = 200_000_000  # bytes that a bomb unfolds to


def cases() -> Iterator[Case]:
    yield from _bombs()
    yield from _places()
    for name, content in safetensors().items():
        yield from _of_safetensors(name, content)


def _bombs() -> Iterator[Case]:
    state = unzipped(saved({"model": {"a": torch.zeros(4)}}))
    code = next(name for name in state if name.endswith(".pkl"))
    data = next(name for name in state if name.endswith("/data/0"))
    deflated = zipfile.ZIP_DEFLATED
    zeros = bytes(MUCH)
    yield from each("zip bomb", "a pickle", zipped({**state, code: zeros}, deflated), PTH)
    yield from each("zip bomb", "a tensor", zipped({**state, data: zeros}, deflated), PTH)
    yield from each("zip bomb", "compressed", zipped(state, deflated), PTH)
    yield from each("zip bomb", "LZMA", zipped(state, zipfile.ZIP_LZMA), PTH)
    stream = io.BytesIO()
    np.savez_compressed(stream, header=np.zeros(MUCH // 8))
    yield from each("zip bomb", "an array", stream.getvalue(), NPZ)
    for shape in ("(1000000000000,)", "(1, -1)", "(" + "(" * 3000 + "1,)", "(2," * 60 + ")"):
        head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
        array = npy(head) + bytes(64)
        yield from each("zip bomb", f"shape {shape:.20}", zipped({"header.npy": array}), NPZ)
    for kind in ("|O", "|S2000000000", "<U500000000", [("a", "<f8")] * 2):
        head = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': (), }}"
        array = npy(head) + bytes(64)
        yield from each("zip bomb", f"type {kind!r:.20}", zipped({"header.npy": array}), NPZ)


def npy(head: str) -> bytes:
    text = head.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _places() -> Iterator[Case]:
    """Lists of members that lie."""
    valid = zipped({"a/data.pkl": b"\x80\x02}.", "a/version": b"3\n", "a/byteorder": b"little"})
    for name, changed in {
        "a comment": _with_comment(valid),
        "another file before it": valid + valid,
        "a byte after it": valid + b"\x00",
        "a size of 4 GB": _with_size(valid, 0xFFFFFFF0),
        "members that overlap": _overlapping(valid),
        "no list": valid[:40],
        "encrypted": _with_flag(valid),
    }.items():
        yield from each("zip bomb", name, changed, {**PTH, **NPZ})
    twice = {"a/data.pkl": b"\x80\x02}.", "A/DATA.PKL": b"\x80\x02}."}
    yield from each("zip bomb", "two members in two cases", zipped(twice), {**PTH, **NPZ})


def _with_comment(content: bytes) -> bytes:
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.comment = b"PK\x05\x06" + bytes(18)
    return stream.getvalue()


def _with_size(content: bytes, size: int) -> bytes:
    """Let the first member claim a size in the list."""
    place = content.index(b"PK\x01\x02")
    return content[: place + 24] + struct.pack("<I", size) + content[place + 28 :]


def _with_flag(content: bytes) -> bytes:
    place = content.index(b"PK\x01\x02")
    return content[: place + 8] + b"\x01\x00" + content[place + 10 :]


def _overlapping(content: bytes) -> bytes:
    """Let every member claim all bytes of the file."""
    changed = bytearray(content)
    place = -1
    while (place := content.find(b"PK\x01\x02", place + 1)) >= 0:
        changed[place + 20 : place + 28] = struct.pack("<2I", len(content), len(content))
        changed[place + 42 : place + 46] = bytes(4)
    return bytes(changed)


# --- safetensors -------------------------------------------------------------------------


def safetensors() -> dict[str, bytes]:
    def file(header: Any, data: bytes = bytes(64), length: int | None = None) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + data

    def tensor(shape: list[int], start: int, end: int, kind: str = "F32") -> dict[str, Any]:
        return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}

    valid = save({"a": torch.zeros(4)})
    return {
        "a header of 2^63 bytes": struct.pack("<Q", 2**63) + valid[8:],
        "a header of 2^64 - 1 bytes": b"\xff" * 8 + valid[8:],
        "a header longer than the file": file({"a": tensor([16], 0, 64)}, length=1000),
        "an empty header": struct.pack("<Q", 0),
        "a cut header": valid[:20],
        "half a length": valid[:4],
        "no JSON": file(b"not JSON"),
        "no UTF-8": file(b'{"\xff": 1}'),
        "lists in lists": file(b"[" * 100_000),
        "objects in objects": file(b'{"a":' * 100_000),
        "a list": file([]),
        "data outside": file({"a": tensor([16], 0, 640)}),
        "data far outside": file({"a": tensor([2**60], 0, 2**62)}),
        "data backwards": file({"a": tensor([16], 64, 0)}),
        "data of both": file({"a": tensor([16], 0, 64), "b": tensor([16], 0, 64)}),
        "data that overlap": file({"a": tensor([8], 0, 32), "b": tensor([12], 16, 64)}),
        "a hole": file({"a": tensor([4], 0, 16), "b": tensor([4], 48, 64)}),
        "a shape too large": file({"a": tensor([17], 0, 64)}),
        "a shape of 10^18": file({"a": tensor([10**9, 10**9], 0, 64)}),
        "a shape that overflows": file({"a": tensor([2**32, 2**32, 4], 0, 64)}),
        "a negative shape": file({"a": tensor([-16], 0, 64)}),
        "an unknown type": file({"a": tensor([16], 0, 64, "OBJECT")}),
        "metadata that are no texts": file({"__metadata__": {"a": 1}}),
        "a name that commands": file({"\x1b[2J": tensor([16], 0, 64)}),
        "a name of a million letters": file({"a" * 10**6: tensor([16], 0, 64)}),
        "a million objects": file({"__metadata__": {"sora_det": '{"a":' * 10**6}}),
        "a zip file": zipped({"a": b""}),
    }


def _of_safetensors(name: str, content: bytes) -> Iterator[Case]:
    kind = "safetensors"
    adapter = written("adapter.safetensors", content)
    yield Case(kind, f"{name}, for adapters", adapter, read_adapter, (AdaptationError,))
    yield Case(kind, f"{name}, for starts", written("start.safetensors", content), _no_start, ())
    yield Case(kind, f"{name}, for PEFT", _peft(content), _import, (AdaptationError,))
    if "name" not in name:  # weights are refused for their names when they meet a network
        weights = written("weights.safetensors", content)
        yield Case(kind, f"{name}, for weights", weights, read_state)


def _peft(content: bytes) -> Any:
    def write(folder: Path) -> Path:
        write_peft(folder)
        return written(WEIGHTS, content)(folder)

    return write


def _import(path: Path) -> None:
    import_peft(path.parent)


def _no_start(path: Path) -> None:
    assert read_start(path, {"method": "SoRA"}) is None
