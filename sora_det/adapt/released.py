"""The checkpoint that the authors of SoRA published, in the terms of this package.

It holds the low-rank factors of q, k, v, proj, fc1 and fc2 from block 8 on, every bias of the
backbone, and the whole detection head. The published code decomposes random weights and loads
DINOv2's over the residual, so that its network is W + s B A with the ORIGINAL weights W, and the
file must be read like that.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .adapter import Adapter, LayerInfo, attach
from .errors import AdaptationError
from .record import Adaptation, base_name, digests
from .select import block_index

PREFIX = "backbone.model."
UNUSED = ("mask_token",)  # in the file, but never reached by a gradient
NAMES = ("lora_A.weight", "lora_B.weight", "bias")


class Published(NamedTuple):
    """The parts of the published file, the backbone's in timm's names."""

    adapter: Adapter  # low-rank terms and the biases trained with them
    frozen: dict[str, Tensor]  # biases that were not trained: they are the pretrained ones
    head: dict[str, Tensor]  # neck and heads, as the file names them


def read_published(state: Mapping[str, Tensor], *, scale: float = 1.0) -> Published:
    """Take apart the tensors of the authors' "adapter & head" file.

    Args:
        state: tensors by name, as in the file's "state_dict".
        scale: s = alpha / rank, 1 as published; the file does not say.

    Raises:
        AdaptationError: not such a file, or an incomplete one.
    """
    backbone = {n.removeprefix(PREFIX): v for n, v in state.items() if n.startswith(PREFIX)}
    head = {n: v for n, v in state.items() if not n.startswith(PREFIX)}
    odd = [n for n in backbone if not n.endswith(NAMES) and n not in UNUSED]
    if odd:
        raise AdaptationError(
            f"{len(odd)} tensors are neither low-rank factors nor biases, such as "
            f"{PREFIX}{odd[0]}: give the adapter-and-head file, not a whole checkpoint"
        )
    sources = [n.removesuffix(".lora_A.weight") for n in backbone if n.endswith(".lora_A.weight")]
    if not sources:
        raise AdaptationError(
            f"no {PREFIX}*.lora_A.weight among {len(state)} tensors such as "
            f"{', '.join(list(state)[:3])}: this is not the published adapter"
        )
    layers: dict[str, LayerInfo] = {}
    tensors: dict[str, Tensor] = {}
    for layer, parts in _in_timm(sources).items():
        down = torch.stack(_take(backbone, parts, "lora_A.weight"))  # (group, rank, in)
        tensors[f"{layer}.down"] = down
        tensors[f"{layer}.up"] = torch.stack(_take(backbone, parts, "lora_B.weight"))
        tensors[f"{layer}.bias"] = torch.cat(_take(backbone, parts, "bias"))
        layers[layer] = LayerInfo(down.shape[1], len(parts), scale, moved=False)
    rest = [n.removesuffix(".bias") for n in backbone if n.endswith(".bias")]
    frozen = {
        f"{layer}.bias": torch.cat(_take(backbone, parts, "bias"))
        for layer, parts in _in_timm(rest).items()
    }
    if left := [name for name in backbone if name not in UNUSED]:
        raise AdaptationError(f"{PREFIX}{left[0]} has no counterpart: the file is incomplete")
    return Published(Adapter(_adaptation(layers), layers, tensors), frozen, head)


def attach_published(net: nn.Module, found: Published) -> nn.Module:
    """Adapt `net`, a timm ViT with DINOv2's weights, as the authors trained it; return it.

    The file has no fingerprint, but its frozen biases are those of its base, bit by bit. Those that
    `net` does not have, such as that of a final norm, are passed over. `save_adapter` then writes
    an adapter file with the fingerprint of `net`.

    Raises:
        AdaptationError: a frozen bias of `net` differs, or there is none to compare; or as
            `attach`. `net` is as before.
    """
    own = net.state_dict()
    shared = [name for name in found.frozen if name in own]
    if not shared:
        raise AdaptationError(f"this {type(net).__name__} has none of the frozen biases")
    other = [name for name in shared if not _same(found.frozen[name], own[name])]
    if other:
        raise AdaptationError(
            f"this {type(net).__name__} is not the base of the published adapter: {len(other)} of "
            f"{len(shared)} frozen biases differ, such as {other[0]}. Load DINOv2's weights"
        )
    present = [name for name in found.adapter.layers if f"{name}.weight" in own]
    known = {**found.adapter.adaptation.digests, **digests(net, present)}
    base = replace(found.adapter.adaptation, digests=known, base=base_name(net))
    return attach(net, replace(found.adapter, adaptation=base))


def _same(stored: Tensor, own: Tensor) -> bool:
    return stored.shape == own.shape and torch.equal(stored.to(own), own)


def _in_timm(layers: list[str]) -> dict[str, list[str]]:
    """Return timm's layers, and of which layers of the reference each is made."""
    made: dict[str, list[str]] = {}
    for layer in layers:
        stem, _, last = layer.rpartition(".")
        if stem.endswith("attn") and last in ("q", "k", "v"):
            made[f"{stem}.qkv"] = [f"{stem}.{part}" for part in "qkv"]
        else:
            made[layer] = [layer]
    return made


def _take(state: dict[str, Tensor], layers: list[str], kind: str) -> list[Tensor]:
    """Remove the tensors `<layer>.<kind>` from `state` and return them, of one shape."""
    missing = [f"{layer}.{kind}" for layer in layers if f"{layer}.{kind}" not in state]
    if missing:
        raise AdaptationError(f"{PREFIX}{missing[0]} is missing: the file is incomplete")
    found = [state.pop(f"{layer}.{kind}") for layer in layers]
    if len({value.shape for value in found}) > 1:
        shapes = ", ".join(str(tuple(value.shape)) for value in found)
        raise AdaptationError(f"{layers[0]}.{kind} and its neighbours differ in shape: {shapes}")
    return found


def _adaptation(layers: Mapping[str, LayerInfo]) -> Adaptation:
    blocks = [index for name in layers if (index := block_index(name)) is not None]
    first = next(iter(layers.values()))
    options = {"rank": first.rank, "alpha": first.scale * first.rank, "start": "official"}
    return Adaptation(
        "SoRA", dict.fromkeys(layers, ""), "DINOv2", options, min(blocks, default=None)
    )
