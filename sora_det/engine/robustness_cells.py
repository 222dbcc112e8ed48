"""Finished cells of a robustness run on disk, and the key that says what they are of."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..data.corruptions import VERSION, libraries
from ..evaluation.protocol import Protocol, RunInfo
from ..evaluation.robustness import Cell, Settings, read_document, write_whole
from ..evaluation.strict_json import decode

FORMAT = "sora_det.robustness_cell"
FORMAT_VERSION = 1

Key = dict[str, Any]
# Entries of the config without a say in scores, or with one that the key shows otherwise.
_ELSEWHERE = ("train", "optimizer", "lr_multiplier", "hooks", "benchmark")


@dataclass(frozen=True)
class Done:
    """A cell, the protocol of its one domain, and what was scored."""

    cell: Cell
    protocol: Protocol
    run: RunInfo


def weights_sha256(model: nn.Module) -> str:
    """Return the checksum of all parameters and buffers: of what is scored, whatever its file."""
    checksum = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        checksum.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        checksum.update(flat.view(torch.uint8).numpy().tobytes())
    return checksum.hexdigest()


def config_sha256(cfg: DictConfig) -> str:
    """Return the checksum of what a config says of the detector and of its test images."""
    cfg = copy.deepcopy(cfg)
    for name in _ELSEWHERE:
        cfg.pop(name, None)
    cfg.dataloader.pop("train", None)
    for name in ("dataset_name", "num_workers"):
        cfg.dataloader.test.pop(name, None)
    return hashlib.sha256(OmegaConf.to_yaml(cfg).encode()).hexdigest()


def settings(seed: int, textures: Sequence[np.ndarray] | None) -> Settings:
    """Describe the corruptions; `textures` of frost, None for drawn ones."""
    return Settings(
        version=VERSION,
        seed=seed,
        frost="drawn" if textures is None else _textures_sha256(textures),
        **libraries(),
    )


def _textures_sha256(textures: Sequence[np.ndarray]) -> str:
    checksum = hashlib.sha256()
    for texture in textures:
        checksum.update(f"{texture.shape}".encode() + np.ascontiguousarray(texture).tobytes())
    return checksum.hexdigest()


def cell_key(scored: Mapping[str, Any], used: Settings, corruption: str) -> Key:
    """Return what must be equal for a cell to be the same, beside its name.

    Args:
        scored: of weights, config and data; any JSON values.
        used: how images are corrupted; nothing of it matters for clean ones.
        corruption: name, "" for clean images.
    """
    if not corruption:
        return dict(scored)
    changed = asdict(used)
    if corruption != "frost":
        del changed["frost"]
    return {**scored, **{f"corruptions {name}": value for name, value in changed.items()}}


def cell_file(folder: Path, domain: str, corruption: str, severity: int) -> Path:
    name = f"{corruption}-{severity}" if corruption else "clean"
    return folder / "cells" / domain / f"{name}.json"


def write_cell(file: Path, done: Done, key: Key) -> None:
    """Write a cell, whole or not at all."""
    document = {"format": FORMAT, "version": FORMAT_VERSION, "key": key, **asdict(done)}
    write_whole(file, json.dumps(document, indent=1, allow_nan=False) + "\n")


def read_cell(file: Path, key: Key) -> tuple[Done | None, list[str]]:
    """Read a cell if it is there and of this key.

    Returns:
        The cell or None, and the entries of the key in which the file differs.

    Raises:
        ValueError: the file is no cell; it is named.
    """
    if not file.is_file():
        return None, []
    try:
        document = read_document(file.read_text(encoding="utf-8"), FORMAT, FORMAT_VERSION)
        found = document.pop("key", None)
        if not isinstance(found, dict):
            raise ValueError("lacks its key")
        done: Done = decode(Done, document, "cell")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no cell of a robustness run, delete it: {error}") from error
    differing = sorted(name for name in {*found, *key} if found.get(name) != key.get(name))
    return (None if differing else done), differing
