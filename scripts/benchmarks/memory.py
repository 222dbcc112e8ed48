"""How much memory a training step takes."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def kept_bytes(net: nn.Module, forward: Callable[[], object]) -> int:
    """Count what `forward` keeps for the backward pass beside the parameters of `net`.

    Views of one tensor count once, as the whole tensor. What compiled or recomputed blocks keep is
    not seen; `peak_bytes` sees it.
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    found: dict[int, Tensor] = {}  # holding them, so that no address is used twice

    def pack(value: Tensor) -> Tensor:
        address = value.untyped_storage().data_ptr()
        if address not in own:
            found[address] = value
        return value

    with saved_tensors_hooks(pack, lambda value: value):
        output = forward()
    del output
    return sum(value.untyped_storage().nbytes() for value in found.values())


def peak_bytes(task: Callable[[], object]) -> int | None:
    """Return by how much `task` raises the memory in use at its worst; None if nobody can tell.

    That is the GPU's where there is one, else the resident memory of this process, which Linux
    tells.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        task()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # give back what earlier tasks have left, in glibc
        REFERENCES.write_text("5")  # forget the largest size so far
    except (OSError, AttributeError):
        return None
    before = _resident("VmRSS:")
    task()
    return _resident("VmHWM:") - before


def megabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e6:,.1f} MB"


def _resident(entry: str) -> int:
    """Return an entry of the process's status in bytes."""
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(entry))
    return int(line.split()[1]) * 1024


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, for the rest of this process.

    It gives large pieces back otherwise, or does not, as earlier ones happened to lie; a layer that
    has to fetch them anew at every step can take a tenth longer.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
