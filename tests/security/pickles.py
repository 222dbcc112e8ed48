"""Pickles that would run a command, and pickles that would fill the memory."""

import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sora_det.adapt import read_adapter
from sora_det.backbones.weights import read_state
from sora_det.engine.checkpoint import load_model, read_checkpoint
from sora_det.evaluation.saved import read_domain
from tests.fuzz.weights import adapted

from .case import CANARY, Case, each

COMMAND = f"touch {CANARY}"  # in the folder that the tally is made in
FORMATS = {
    "checkpoints": ("model_final.pth", read_checkpoint),
    "weights": ("weights.pt", read_state),
    "weights in a .bin": ("weights.bin", read_state),
    "weights in a .safetensors": ("weights.safetensors", read_state),
    "pickles": ("model_final.pkl", read_checkpoint),
    "adapters": ("adapter.safetensors", read_adapter),
    "detections": ("fog.npz", read_domain),
}


class Runs:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def cases() -> Iterator[Case]:
    yield from _plain()
    yield from _zipped()
    yield from _legacy()
    yield from _memory()


def _plain() -> Iterator[Case]:
    """Pickles as they are, under every name that a reader takes."""
    for protocol in (0, 2, 4):
        evil = pickle.dumps({"model": Runs(os.system, COMMAND)}, protocol)
        yield from each("pickle", f"os.system, protocol {protocol}", evil, FORMATS)
    calls = {
        "eval": Runs(eval, f"__import__('os').system('{COMMAND}')"),
        "exec": Runs(exec, f"import os; os.system('{COMMAND}')"),
        "open": Runs(open, CANARY, "w"),
        "numpy.load": Runs(np.load, "other.npy", None, True),
        "torch.load": Runs(torch.load, "other.pth"),
        "getattr": Runs(getattr, Runs(__import__, "os"), "system"),
    }
    for name, call in calls.items():
        for where, state in {
            "weights": {"model": call},
            "a trainer": {"model": {}, "trainer": call},
            "nothing": call,
        }.items():
            yield from each(
                "pickle", f"{name} in {where}", pickle.dumps(state, 2), _some("weights")
            )
    inst = b"(S'" + COMMAND.encode() + b"'\nios\nsystem\n."
    yield from each("pickle", "os.system by INST", inst, FORMATS)
    stack = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0c" + COMMAND.encode() + b"\x85R."
    yield from each("pickle", "os.system by STACK_GLOBAL", stack, FORMATS)


def _zipped() -> Iterator[Case]:
    """Files of torch.save and numpy.savez that hold such a pickle."""
    for where in ("model", "trainer", "origin", "omitted"):
        state = {"model": adapted().state_dict(), where: Runs(os.system, COMMAND)}
        yield from each("pickle", f"torch.save, {where}", saved(state), _some("checkpoints"))
    yield from each("pickle", "torch.save", saved(Runs(os.system, COMMAND)), _some("weights"))
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), script)  # type: ignore[no-untyped-call]
    yield from each("pickle", "TorchScript", script.getvalue(), _some("weights"))
    stream = io.BytesIO()
    np.savez(stream, header=np.array([Runs(os.system, COMMAND)], dtype=object))
    yield from each("pickle", "object array", stream.getvalue(), _some("detections"))
    member = zipped({"header.npy": pickle.dumps(Runs(os.system, COMMAND))})
    yield from each("pickle", "pickle for an array", member, _some("detections"))


def _legacy() -> Iterator[Case]:
    """The formats of PyTorch before 1.6 and before 0.1.10."""
    evil = saved({"model": Runs(os.system, COMMAND)}, legacy=True)
    yield from each("pickle", "torch.save before 1.6", evil, FORMATS)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("storages", "tensors", "pickle", "../../" + CANARY):
            content = pickle.dumps(Runs(os.system, COMMAND), 2)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    yield from each("pickle", "torch.save before 0.1.10", stream.getvalue(), FORMATS)


def _memory() -> Iterator[Case]:
    """Small files whose pickles ask for much."""
    calls = {
        "bytearray": (b"__builtin__", b"bytearray", 2 * 10**9),
        "FloatTensor": (b"torch", b"FloatTensor", 10**10),
        "FloatStorage": (b"torch", b"FloatStorage", 10**10),
        "UntypedStorage": (b"torch.storage", b"UntypedStorage", 10**11),
        "Tensor": (b"torch", b"Tensor", 10**10),
        "range in a set": (b"__builtin__", b"range", 10**9),
    }
    for name, (module, function, count) in calls.items():
        number = b"\x8a\x08" + struct.pack("<q", count)
        code = b"\x80\x02c" + module + b"\n" + function + b"\n" + number + b"\x85R."
        as_zip = zipped({"a/data.pkl": code, "a/version": b"3\n", "a/byteorder": b"little"})
        yield from each("memory", name, as_zip, _some("checkpoints") | _some("weights"))
    yield from _hashes()
    yield from each("memory", "bytes", b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", _some("weights"))
    yield from each("memory", "memo", b"\x80\x02Kar\xff\xff\xff\xff.", _some("weights"))
    yield from _claims()
    holds_itself: dict[str, Any] = {}
    holds_itself["model"] = holds_itself
    yield from each("memory", "it holds itself", saved(holds_itself), _some("checkpoints"))
    yield from each("memory", "it holds itself", saved(holds_itself), _some("weights"))
    wide = torch.zeros(1).expand(10**6, 10**6)
    for name, state in (("of a head", {"head.bias": wide}), ("of positions", {"pos_embed": wide})):
        yield from each("memory", f"10^12 numbers {name}", saved(state), _some("weights"))
        yield from each("memory", f"10^12 numbers {name}", saved(state), _some("checkpoints"))


def _hashes() -> Iterator[Case]:
    """Tuples that take years to hash, and lists that are copied over and over."""
    key: Any = ()
    for _ in range(60):
        key = (key, key)
    codes = {
        "as a key": b"\x80\x02}" + pickle.dumps(key, 2)[2:-1] + b"K\x01s.",
        "as a key of an OrderedDict": _called(b"collections\nOrderedDict", [[key, 1]]),
        "in a set": _called(b"__builtin__\nset", [key]),
        "in a Counter": _called(b"collections\nCounter", [key]),
    }
    for name, code in codes.items():
        members = {"a/data.pkl": code, "a/version": b"3\n", "a/byteorder": b"little"}
        yield from each("memory", f"tuples in tuples {name}", zipped(members), _some("weights"))
    numbers = b"](" + b"K\x01" * 30_000 + b"eq\x00"
    for name in (b"torch\nSize", b"__builtin__\nset", b"collections\nCounter"):
        calls = b"c" + name + b"\nq\x010](" + b"h\x01h\x00\x85R" * 30_000 + b"e."
        members = {"a/data.pkl": b"\x80\x02" + numbers + calls, "a/version": b"3\n"}
        title = f"30,000 x 30,000 entries, {name.decode().split()[1]}"
        yield from each("memory", title, zipped(members), _some("weights"))


def _called(function: bytes, argument: Any) -> bytes:
    """Return a pickle that calls a function with one argument."""
    return b"\x80\x02c" + function + b"\n" + pickle.dumps(argument, 2)[2:-1] + b"\x85R."


def _claims() -> Iterator[Case]:
    """Tensors that claim other data than the file has."""
    valid = {name: data for name, data in unzipped(saved({"a": torch.arange(4.0)})).items()}
    code = next(data for name, data in valid.items() if name.endswith(".pkl"))
    for count in (5, 3, 10**6, 2**31 - 1):
        changed = code.replace(b"K\x04tq", b"J" + struct.pack("<i", count) + b"tq")
        assert changed != code
        members = {n: changed if n.endswith(".pkl") else d for n, d in valid.items()}
        yield from each("memory", f"{count} numbers of 4", zipped(members), _some("weights"))
    legacy = saved({"a": torch.arange(4.0)}, legacy=True)
    changed = legacy.replace(b"K\x04N", b"J\xff\xff\xff\x7fN")
    assert changed != legacy
    yield from each("memory", "2^31 numbers of 4", changed, _some("weights"))


def _some(name: str) -> dict[str, Any]:
    return {name: FORMATS[name]}


def saved(state: Any, *, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def zipped(members: dict[str, bytes], form: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", form) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def unzipped(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def load(path: Path) -> None:
    load_model(adapted(), read_checkpoint(path))
