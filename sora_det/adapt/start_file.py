"""Where every low-rank term started, on disk: what was decomposed once is not decomposed again."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import brief
from .store import checksum, write_tensors

logger = logging.getLogger(__name__)

KEY = "sora_det.start"
Factors = tuple[Tensor, Tensor]  # up (group, out / group, rank), down (group, rank, in)


def read_start(file: str | Path, key: Mapping[str, Any]) -> dict[str, Factors] | None:
    """Return the factors at the start by layer, or None without a file made for `key`.

    Args:
        file: written by `write_start`.
        key: plain values that decide what the factors are: weights, method, ranks, scales.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stored:
            head = (stored.metadata() or {}).get(KEY, "")
            if not head.startswith(_text(key)):
                logger.info("%s belongs to other weights or settings: it is made anew", path)
                return None
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}
        if head != _head(key, tensors):
            logger.warning("%s is damaged (its checksum differs): it is made anew", path)
            return None
    except SafetensorError as error:
        logger.warning("%s cannot be read and is made anew (%s)", path, brief(str(error)))
        return None
    layers = sorted({name.rpartition(".")[0] for name in tensors})
    try:
        return {name: (tensors[f"{name}.up"], tensors[f"{name}.down"]) for name in layers}
    except KeyError as error:
        logger.warning("%s lacks %r and is made anew", path, error.args[0])
        return None


def write_start(file: str | Path, key: Mapping[str, Any], factors: Mapping[str, Factors]) -> None:
    """Write the factors of every layer, all or nothing; of several processes the first one does."""
    if dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
        return
    tensors = {}
    for name, (up, down) in factors.items():
        tensors[f"{name}.up"], tensors[f"{name}.down"] = up, down
    write_tensors(file, tensors, {KEY: _head(key, tensors)})


def _head(key: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    # One entry for both: safetensors writes several in any order.
    return f"{_text(key)}\n{checksum(_text(key), tensors)}"


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)
