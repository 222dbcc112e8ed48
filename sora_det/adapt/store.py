"""Write tensors to disk, all or nothing."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_tensors(
    file: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, its folder too if need be.

    Whoever reads `file` at any moment finds the former one or the whole new one, also if several
    processes write it.
    """
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        whole = Path(folder) / path.name
        save_file(plain, whole, metadata=dict(metadata))
        whole.replace(path)
