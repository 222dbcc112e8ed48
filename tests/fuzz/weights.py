"""Readers of adapters, checkpoints and pretrained weights."""

import io
import json
import math
import struct
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from sora_det.adapt import AdaptationError, SoRA, attach, collect, files, import_peft, read_adapter
from sora_det.adapt.files import read_header
from sora_det.adapt.peft_format import CONFIG, WEIGHTS, export_peft
from sora_det.adapt.start_file import KEY, read_start
from sora_det.adapt.store import checksum
from sora_det.backbones.weights import read_state
from sora_det.engine.checkpoint import load_model, model_state, read_checkpoint

from .mutations import (
    Maker,
    anything,
    as_json,
    change_bytes,
    change_tree,
    changed_bytes,
    changed_json,
    one_of,
)
from .target import Target

START = {"method": "SoRA", "rank": 1}


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3))


class Detector(nn.Module):
    """A backbone with two blocks, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.head = Blocks(), nn.Linear(3, 2)


@cache
def adapted() -> Detector:
    model = Detector()
    SoRA(rank=1)(model.backbone)
    return model


# --- safetensors -------------------------------------------------------------------------


def safetensors(valid: bytes) -> Maker:
    """A safetensors file whose own header is odd; the data after it stay as they are."""
    length = struct.unpack("<Q", valid[:8])[0]
    header, data = json.loads(valid[8 : 8 + length]), valid[8 + length :]

    def make(random: Random) -> bytes:
        text = as_json(change_tree(random, header))
        claimed = len(text) + random.choice((0, 0, 0, 0, 0, 1, -1, 2**40, 2**63))
        return struct.pack("<Q", max(0, claimed)) + text + data

    return make


def adapters() -> Maker:
    """Adapter files with an odd header or odd tensors, and a checksum that is right for them."""
    adapter = collect(adapted().backbone)
    tensors = dict(adapter.tensors)
    header = files._header(adapter.adaptation, adapter.layers)
    header["checksum"] = files._checksum(header, tensors)

    def make(random: Random) -> bytes:
        found: Any = change_tree(random, header) if random.random() < 0.7 else dict(header)
        values = change_tensors(random, tensors)
        if isinstance(found, dict) and random.random() < 0.9:
            found["checksum"] = files._checksum(found, values)
        return save(values, {files.METADATA_KEY: json.dumps(found)})

    valid = save(tensors, {files.METADATA_KEY: json.dumps(header)})
    return one_of(make, make, make, safetensors(valid), changed_bytes(valid), anything(valid))


def change_tensors(random: Random, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of which one may be missing, renamed, or of another shape, type or value."""
    found = dict(tensors)
    name = random.choice(sorted(found))
    value, kind = found[name], random.randrange(12)
    if kind == 0:
        del found[name]
    elif kind == 1:
        found[random.choice(("a", "blocks.0.up", "x.up", "\x1b[2J", ""))] = value.clone()
    elif kind == 2:
        found[name] = value[:0].clone()
    elif kind == 3:
        found[name] = value.to(random.choice((torch.int8, torch.half, torch.int64)))
    elif kind == 4:
        found[name] = torch.full_like(value, random.choice((math.nan, math.inf, 1e30)))
    elif kind == 5:
        found[name] = value.reshape(-1).clone()
    return found


def read_any_adapter(path: Path) -> None:
    read_header(path)
    attach(Detector().backbone, read_adapter(path))


def starts() -> Maker:
    factors = {"blocks.0.up": torch.ones(1, 4, 1), "blocks.0.down": torch.ones(1, 1, 3)}
    text = json.dumps(START, sort_keys=True)

    def make(random: Random) -> bytes:
        values = change_tensors(random, factors)
        return save(values, {KEY: f"{text}\n{checksum(text, values)}"})

    valid = save(factors, {KEY: f"{text}\n{checksum(text, factors)}"})
    return one_of(make, safetensors(valid), changed_bytes(valid), anything(valid))


# --- PEFT --------------------------------------------------------------------------------


def peft_configs() -> Maker:
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 2,
        "rank_pattern": {"^blocks\\.0": 2, "1": 2},
        "alpha_pattern": {"blocks.*": 3},
        "init_lora_weights": True,
        "use_dora": False,
        "use_rslora": False,
        "base_model_name_or_path": None,
        "auto_mapping": {"base_model_class": "ViT"},
    }

    def with_patterns(random: Random) -> bytes:
        texts = ["".join(random.choices("ab.*+?(|)[]{}\\1^$,", k=12)) for _ in range(2)]
        return as_json({**config, "rank_pattern": dict.fromkeys(texts, 2)})

    return one_of(changed_json(config), changed_json(config), with_patterns)


def read_peft(path: Path) -> None:
    attach(Blocks(), import_peft(path.parent))


def write_peft(folder: Path) -> None:
    export_peft(adapted().backbone, folder)
    assert (folder / WEIGHTS).is_file()


# --- torch.save --------------------------------------------------------------------------


def saved(state: Any, *, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def checkpoint() -> dict[str, Any]:
    return {
        **model_state(adapted(), whole=False),
        "trainer": {"iteration": 9, "history": {"loss": {"smooth": True, "values": [[1.0, 3]]}}},
        "origin": {"weights": "a.pth (sha256 0123)", "random_init": False},
    }


def repacked(valid: bytes) -> Maker:
    """A zip file of which one member is odd, with checksums that are right for it."""
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    code = [name for name in members if name.endswith(".pkl")]

    def make(random: Random) -> bytes:
        chosen = random.choice([*members, *code * len(members)])
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as new:
            for name, content in members.items():
                odd = change_bytes(random, content) if name == chosen else content
                packed = name == chosen and random.random() < 0.05
                new.writestr(name, odd, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)
        return out.getvalue()

    return make


def pickles(state: Any) -> Maker:
    """Files of torch.save: other values, other codes in their pickles, other bytes."""
    valid, legacy = saved(state), saved(state, legacy=True)

    def by_value(random: Random) -> bytes:
        try:
            return saved(change_tree(random, state))
        except UnicodeEncodeError:  # PyTorch cannot write lone surrogates
            return b""

    return one_of(
        *(by_value, by_value, repacked(valid), repacked(valid)),
        *(changed_bytes(valid), changed_bytes(legacy), anything(legacy)),
    )


def read_any_checkpoint(path: Path) -> None:
    load_model(adapted(), read_checkpoint(path), name=path.name)


TARGETS = {
    "adapter": Target(
        adapters(), "a.safetensors", read_any_adapter, (AdaptationError,), named=False
    ),
    "start": Target(starts(), "start.safetensors", lambda path: read_start(path, START), ()),
    "peft": Target(
        peft_configs(), CONFIG, read_peft, (AdaptationError,), named=False, prepare=write_peft
    ),
    "checkpoint": Target(pickles(checkpoint()), "model_final.pth", read_any_checkpoint),
    "weights": Target(pickles({"model": Blocks().state_dict()}), "weights.pth", read_state),
    "safetensors": Target(
        one_of(safetensors(save(Blocks().state_dict())), anything(save(Blocks().state_dict()))),
        "weights.safetensors",
        read_state,
    ),
}
