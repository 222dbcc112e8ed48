"""Adapter files: what training changed, small, independent of any decomposition.

A file is a safetensors file. Under the key "sora_det" of its metadata stands a header in JSON:

    format        1
    method        "SoRA", "LoRA", "DoRA" ...
    base          name of the pretrained network, for people
    fingerprint   SHA-256 over the weights of the adapted layers before, "" if unknown
    options       the method's arguments
    start_block   first adapted block, or null
    targets       last name components of the adapted layers
    layers        by name: digest (of the weight before), and for low-rank layers also rank, groups,
                  scale, moved, differences
    checksum      SHA-256 over the header without it, and all tensors

A low-rank layer has two tensors, `<layer>.up` (group, out / group, R) and `<layer>.down`
(group, R, in); its weight in group g is original[g] + scale * up[g] @ down[g]. If the start of the
low-rank term was taken out of the weight (`moved`), R is twice the rank and the tensors are
[up, -start of up] and [down; start of down]. Types narrower than float32 would lose the small
difference of the two, so that files of such types hold [up - start of up, start of up] and
[down; down - start of down] (`differences`), the same product. DoRA adds `<layer>.magnitude`
(out,), the lengths to which it brings the rows of that weight. All other tensors, biases for
instance, replace those of the same name in the network.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .adapter import DTYPES, Adapter, LayerInfo, attach, collect, in_differences
from .errors import AdaptationError, brief
from .record import Adaptation
from .store import check_names, checksum, write_tensors

FORMAT = 1
METADATA_KEY = "sora_det"


def save_adapter(net: nn.Module, file: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write what training changed in `net` to a file; see `collect` and `write_adapter`."""
    write_adapter(collect(net), file, dtype=dtype)


def load_adapter(net: nn.Module, file: str | Path, *, check: bool = True) -> nn.Module:
    """Adapt a network with its original weights as a file says; see `attach`, `read_adapter`."""
    return attach(net, read_adapter(file), check=check)


def write_adapter(adapter: Adapter, file: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write an adapter file. An existing file is replaced only when the new one is complete.

    Args:
        adapter: what to write.
        file: by custom with the ending .safetensors.
        dtype: of the stored tensors, None to keep what they have. torch.bfloat16 halves the file
            and rounds what was trained to 3 digits: of a low-rank layer its change, of `Full` the
            weights themselves. DoRA's lengths keep their type.

    Raises:
        AdaptationError: another dtype, or one too narrow for the values.
        OSError: the file cannot be written.
    """
    if dtype is not None:
        if dtype not in DTYPES:
            raise AdaptationError(f"adapters are stored as one of {DTYPES}, not as {dtype}")
        adapter = in_differences(adapter) if dtype.itemsize < 4 else adapter
        cast = {n: t.to(dtype) if _cast(n, t) else t for n, t in adapter.tensors.items()}
        adapter = replace(adapter, tensors=cast)
    header = _header(adapter.adaptation, adapter.layers)
    header["checksum"] = _checksum(header, adapter.tensors)
    write_tensors(file, adapter.tensors, {METADATA_KEY: json.dumps(header)})


def read_header(file: str | Path) -> dict[str, Any]:
    """Return the header of an adapter file, without reading its tensors.

    Raises:
        AdaptationError: no adapter file, an incomplete one, or one of a newer format.
        OSError: the file cannot be read.
    """
    path = Path(file).expanduser()
    header, _ = _read(path, tensors=False)
    _described(header, path.name)
    return header


def read_adapter(file: str | Path) -> Adapter:
    """Read an adapter file and check that it is as it was written.

    Raises:
        AdaptationError: as `read_header`; also a file that was changed.
        OSError: the file cannot be read.
    """
    path = Path(file).expanduser()
    header, tensors = _read(path, tensors=True)
    if _checksum(header, tensors) != header.get("checksum"):
        raise AdaptationError(
            f"{path.name} is damaged or was changed after it was written (its checksum differs): "
            "copy or download it again"
        )
    return Adapter(*_described(header, path.name), tensors)


def _described(header: Mapping[str, Any], name: str) -> tuple[Adaptation, dict[str, LayerInfo]]:
    """Return what a header says, of which every entry is checked."""
    try:
        adaptation, layers = _parts(header)
        again = _header(adaptation, layers)
    except (KeyError, TypeError, AttributeError, UnicodeError, RecursionError) as error:
        raise AdaptationError(f"the header of {name} is incomplete: {error!r:.300}") from error
    wrong = [key for key in ("fingerprint", "targets", "layers") if header.get(key) != again[key]]
    if adaptation.start_block is not None and adaptation.start_block < 0:
        wrong.append("start_block")
    if wrong:
        raise AdaptationError(
            f"the header of {name} contradicts itself in {', '.join(wrong)}: it was not made by "
            "save_adapter(), or was changed afterwards"
        )
    return adaptation, layers


def _parts(header: Mapping[str, Any]) -> tuple[Adaptation, dict[str, LayerInfo]]:
    described = _typed(header, "layers", dict)
    check_names([*described, _typed(header, "method", str), _typed(header, "base", str)])
    adaptation = Adaptation(
        method=_typed(header, "method", str),
        digests={name: _typed(entry, "digest", str) for name, entry in described.items()},
        base=_typed(header, "base", str),
        options=_typed(header, "options", dict),
        start_block=_typed(header, "start_block", int, type(None)),
    )
    layers = {
        name: LayerInfo(**{key: value for key, value in entry.items() if key != "digest"})
        for name, entry in described.items()
        if entry.keys() != {"digest"}
    }
    return adaptation, layers


def _typed(entry: Mapping[str, Any], key: str, *kinds: type) -> Any:
    if type(entry[key]) not in kinds:
        raise TypeError(f"{key} is a {type(entry[key]).__name__}")
    return entry[key]


def _read(path: Path, *, tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if path.is_dir():
        raise AdaptationError(f"{path} is a folder, not an adapter file")
    try:
        with safe_open(path, framework="pt") as stored:
            header = _parse((stored.metadata() or {}).get(METADATA_KEY), path.name)
            check_names(stored.keys())
            found = {name: stored.get_tensor(name) for name in stored.keys()} if tensors else {}
    except SafetensorError as error:
        raise AdaptationError(
            f"{path.name} is no complete safetensors file ({brief(str(error))}): copy or "
            "download it again"
        ) from error
    return header, found


def _parse(text: str | None, name: str) -> dict[str, Any]:
    if text is None:
        raise AdaptationError(f"{name} has no adapter header: it was not made by save_adapter()")
    try:
        header = json.loads(text)
        version = _typed(header, "format", int)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdaptationError(f"the header of {name} cannot be read ({error!r:.300})") from error
    if version != FORMAT:
        raise AdaptationError(
            f"{name} has format {version}, this version of sora_det reads {FORMAT}: update it"
        )
    return dict(header)


def _cast(name: str, value: Tensor) -> bool:
    return value.is_floating_point() and not name.endswith(".magnitude")


def _header(adaptation: Adaptation, infos: Mapping[str, LayerInfo]) -> dict[str, Any]:
    layers: dict[str, dict[str, Any]] = {n: {"digest": d} for n, d in adaptation.digests.items()}
    for name, info in infos.items():
        layers.setdefault(name, {"digest": ""}).update(asdict(info))
    header = {
        "format": FORMAT,
        "method": adaptation.method,
        "base": adaptation.base,
        "fingerprint": adaptation.fingerprint,
        "options": dict(adaptation.options),
        "start_block": adaptation.start_block,
        "targets": sorted({name.rpartition(".")[2] for name in layers}),
        "layers": layers,
    }
    plain: dict[str, Any] = json.loads(json.dumps(header, default=str))
    return plain


def _checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    rest = {key: value for key, value in header.items() if key != "checksum"}
    return checksum(json.dumps(rest, sort_keys=True), tensors)
