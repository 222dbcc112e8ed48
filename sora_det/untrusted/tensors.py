"""Files of `torch.save`, read without running code and without more memory than they are long.

PyTorch's own reader of plain values (`weights_only`) runs no code, but a file of a hundred bytes
can make it allocate gigabytes. So every pickle is first gone through with nothing behind its names.
"""

from __future__ import annotations

import io
import mmap
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar

import torch

from .archive import members
from .text import reason

# What tensors in dictionaries and lists are made with. torch.load allows more, bytearray for one.
_CALLED = {
    "__builtin__.complex",
    "__builtin__.set",
    "collections.OrderedDict",
    "collections.Counter",
    "torch.Size",
    "torch.device",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
}
_STORAGES = {  # bytes of one number
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
    "ComplexDoubleStorage": 16,
    "ComplexFloatStorage": 8,
    "UntypedStorage": 1,
}
# The codes that torch.load understands; among the others are bytes of any claimed length.
_CODES = b"cRbaesu(t\x85\x86\x87N\x89\x88]})\x8fJKMGXUQhjqr\x8a\x80."
_ZIP = b"PK\3\4"
_MOST = 10**7  # entries that calls may copy; of a file with fewer bytes, as many as it has bytes
_PARTS = 5  # pickles that begin a file of PyTorch before 1.6, which is no zip file


def read_tensors(file: str | Path) -> object:
    """Return what `torch.save` wrote: tensors and plain values in dictionaries and lists.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, holds something else, or claims more than it has.
    """
    path = Path(file)
    try:
        _survey(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch.load has no common one for what damaged files make it raise
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(reason(first)) from error


def _survey(path: Path) -> None:
    """Raise an exception unless the tensors of a file have the bytes that they claim."""
    with path.open("rb") as file:
        if file.read(len(_ZIP)) == _ZIP:
            _survey_zip(path)
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            claimed = dict[str, int]()
            for _ in range(_PARTS):  # a mapped file reads as a file does
                claimed |= _storages(whole, len(whole))  # type: ignore[arg-type]
            if sum(claimed.values()) > len(whole):
                raise ValueError(f"its tensors claim {sum(claimed.values())} of {len(whole)} bytes")


def _survey_zip(path: Path) -> None:
    sizes = members(path)
    names = [name for name in sizes if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise ValueError(f"it must hold one data.pkl, got {len(names)}")
    with zipfile.ZipFile(path) as archive:
        claimed = _storages(io.BytesIO(archive.read(names[0])), sizes[names[0]])
    for key, size in claimed.items():
        held = sizes.get(f"{names[0].removesuffix('.pkl')}/{key}")
        if held != size:
            raise ValueError(f"a tensor claims {size} bytes where there are {held}")


def _storages(stream: IO[bytes], length: int) -> dict[str, int]:
    """Read one pickle; return the bytes that the data of tensors claim, by their keys."""
    survey = _Survey(stream, min(length, _MOST))
    survey.load()
    return survey.claimed


class _Survey(pickle._Unpickler):  # in Python: the one in C makes room for whatever is claimed
    """Goes through a pickle and makes nothing of it but lists, dictionaries and plain values.

    Tuples become lists as well, so that none can be a key: tuples in tuples, each in there twice,
    would be hashed for years.

    Args:
        stream: of the pickle.
        most: entries that may be copied out of lists and dictionaries, into others.
    """

    # Of the class above, whose hints do not show them.
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, stream: IO[bytes], most: int) -> None:
        super().__init__(stream)
        self.claimed: dict[str, int] = {}
        self.left = most

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" in _CALLED:
            return self.call
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _Kind(_STORAGES[name])
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return _Kind(0)
        raise ValueError(f"it asks for {module}.{name}, which no plain tensors need")

    def persistent_load(self, pid: Any) -> Any:
        what, kind, key, _, count = pid[:5]
        if what != "storage" or type(key) is not str or type(count) is not int or count < 0:
            raise ValueError("it names the data of a tensor in an unknown way")
        size = count * kind.item_size
        if self.claimed.setdefault(key, size) != size:
            raise ValueError("it claims two sizes for the data of one tensor")
        return _Nothing()

    def call(self, *arguments: Any) -> Any:
        """Stand for a call, which copies the entries of its arguments and may hash them."""
        for value in arguments:
            if isinstance(value, list | dict):
                self.left -= len(value)
                for entry in value if self.left >= 0 else ():
                    hash(entry[0] if isinstance(entry, list) and entry else entry)
        if self.left < 0:
            raise ValueError("it copies lists without end")
        return _Nothing()

    def load_build(self) -> None:
        state = self.stack.pop()
        self.call(state, *(state if isinstance(state, list) else ()))

    def load_tuple(self) -> None:
        items = self.pop_mark()  # before `append` is looked up: it is that of another stack then
        self.append(items)

    def load_tuple1(self) -> None:
        self.stack[-1:] = [self.stack[-1:]]

    def load_tuple2(self) -> None:
        self.stack[-2:] = [self.stack[-2:]]

    def load_tuple3(self) -> None:
        self.stack[-3:] = [self.stack[-3:]]

    dispatch: ClassVar[dict[int, Any]] = {
        **{code: pickle._Unpickler.dispatch[code] for code in _CODES},
        pickle.BUILD[0]: load_build,
        pickle.TUPLE[0]: load_tuple,
        pickle.TUPLE1[0]: load_tuple1,
        pickle.TUPLE2[0]: load_tuple2,
        pickle.TUPLE3[0]: load_tuple3,
    }


class _Kind:
    """A type of numbers, which cannot be called."""

    def __init__(self, item_size: int) -> None:
        self.item_size = item_size  # bytes


class _Nothing:
    """Stands for whatever a pickle would make, a dictionary for instance."""

    def __setitem__(self, key: Any, value: Any) -> None:
        hash(key)
