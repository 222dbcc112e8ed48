"""Write tensors to disk, all or nothing."""

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from .errors import AdaptationError

LONGEST = 500  # characters of a name


def write_tensors(
    file: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, its folder too if need be.

    Whoever reads `file` at any moment finds the former one or the whole new one, also if several
    processes write it.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(file).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        whole = Path(folder) / path.name
        try:
            save_file(plain, whole, metadata=dict(metadata))
        except SafetensorError as error:
            raise OSError(f"cannot write {path}: {error}") from error
        (ordinary := Path(folder) / "ordinary").touch()
        whole.chmod(ordinary.stat().st_mode)  # safetensors hides its files from other users
        whole.replace(path)


def check_names(names: Iterable[str]) -> None:
    """Names from a file go into messages and on terminals, and must be fit for them.

    Raises:
        AdaptationError: one is very long, or holds characters that cannot be printed.
    """
    for name in names:
        if not name.isprintable() or len(name) > LONGEST:
            raise AdaptationError(
                f"names must have at most {LONGEST} characters, none of which commands a terminal, "
                f"got {name[:80]!r}"
            )


def checksum(head: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over a text and all tensors: names, types, shapes and bytes."""
    found = hashlib.sha256(head.encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        kind = str(value.dtype).removeprefix("torch.")
        found.update(f"\n{name} {kind} {list(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
