"""Pretrained weights from a local file: read, renamed, resized and loaded strictly."""

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..untrusted.tensors import read_tensors
from ..untrusted.text import reason, shown

logger = logging.getLogger(__name__)

TimmViT: TypeAlias = Any  # a module; its base class does not declare what all ViTs of timm have

ASSETS = Path(__file__).resolve().parents[1] / "assets"  # weights that come with the package
SHIPPED = ("toy_foundation",)
WRAPPERS = ("state_dict", "teacher", "model")
MLP_NAMES = {"w12": "fc1", "w3": "fc2", "lin1": "fc1", "lin2": "fc2"}  # DINOv2-g, SAM
FIRST_LAYER = "patch_embed.proj.weight"

# A detector has no use for these, so a file may bring them and a network may lack them.
HEADS = ("mask_token", "head.", "head_dist.", "attn_pool.", "lm_head.", "rope.")


def read_state(file: str | Path) -> dict[str, Tensor]:
    """Read the named tensors of a .safetensors, .pth, .pt or .bin file.

    An outer {"model": ...}, {"state_dict": ...} or {"teacher": ...} is unwrapped. Only tensors and
    plain containers are unpickled, never code. The name "toy_foundation" stands for the file that
    comes with the package.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds something else than named tensors.
    """
    path = _path(file)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    state = _unpickle(path) if path.suffix != ".safetensors" else _open_safetensors(path)
    for _ in WRAPPERS:  # a pickle may hold itself, and would be unwrapped for ever
        if isinstance(state, Mapping):
            inner = next(filter(state.__contains__, WRAPPERS), "")
            state = state[inner] if inner else state
    if not isinstance(state, Mapping) or not state:
        raise ValueError(f"{path.name} holds a {type(state).__name__}, not named tensors")
    odd = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise ValueError(f"{path.name} holds values that are no tensors: {_shorten(odd)}")
    size = path.stat().st_size
    vast = [str(name) for name, value in state.items() if value.nbytes > size]
    if vast:
        raise ValueError(f"{path.name} has {size} bytes, of which {_shorten(vast)} claim more")
    return {str(name): value for name, value in state.items()}


def describe_file(file: str | Path) -> str:
    """Return the name of a file and the start of its SHA-256, to be kept beside results."""
    path = _path(file)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{path.name} (sha256 {digest[:16]})"


def load_vit(net: TimmViT, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load `state`, in any known layout and for any image or patch size, into a timm ViT.

    Args:
        net: a timm ViT without head.
        state: tensors by name, as timm, DINOv2's authors or the SoRA reference code name them.
        source: what to call the weights in an error.

    Raises:
        ValueError: the tensors do not fit; names all that are missing, unexpected or misshapen.
    """
    load_strictly(net, _resize(_to_timm(state, net, source), net), source=source, ignore=HEADS)


def load_strictly(
    module: nn.Module, state: Mapping[str, Tensor], *, source: str, ignore: Iterable[str] = ()
) -> None:
    """Load every tensor of `state` into `module`, and nothing less.

    Args:
        module: takes the tensors over into those it has; its types and devices stay.
        state: tensors by name.
        source: what to call the weights in an error.
        ignore: beginnings of names that `state` may have and `module` may lack.

    Raises:
        ValueError: missing or unexpected names, or other shapes; `module` is then unchanged.
    """
    own = module.state_dict()
    unknown = [name for name in state if name not in own]
    dropped = [name for name in unknown if name.startswith(tuple(ignore))]
    kept = {name: value for name, value in state.items() if name not in dropped}
    problems = {
        "missing": [name for name in own if name not in kept],
        "unexpected": [name for name in kept if name not in own],
        "of another shape": [
            f"{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}"
            for name, value in kept.items()
            if name in own and value.shape != own[name].shape
        ],
    }
    if any(problems.values()):
        found = "; ".join(f"{len(v)} {k}: {_shorten(v)}" for k, v in problems.items() if v)
        raise ValueError(
            f"{source} does not fit this {type(module).__name__} of {len(own)} tensors: {found}. "
            "Name the model that the file was made for, or give the file of this model."
        )
    module.load_state_dict(kept, strict=True)
    logger.info("loaded %d tensors of %s, left out %s", len(kept), source, _shorten(dropped))


def fuse_qkv(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stack attn.q, attn.k and attn.v, each (dim, ...), into attn.qkv (3 dim, ...)."""
    fused: dict[str, Tensor] = {}
    for name, value in state.items():
        stem, dot, kind = name.rpartition(".")
        if not stem.endswith((".attn.q", ".attn.k", ".attn.v")):
            fused[name] = value
            continue
        parts = [state.get(f"{stem[:-1]}{part}.{kind}") for part in "qkv"]
        if any(part is None for part in parts):
            fused[name] = value  # an incomplete triple stays, and is reported as unexpected
        else:
            fused[f"{stem[:-1]}qkv{dot}{kind}"] = torch.cat([p for p in parts if p is not None])
    return fused


def split_qkv(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cut attn.qkv (3 dim, ...) into attn.q, attn.k and attn.v: the reverse of `fuse_qkv`."""
    split: dict[str, Tensor] = {}
    for name, value in state.items():
        stem, dot, kind = name.rpartition(".")
        if stem.endswith(".attn.qkv"):
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                split[f"{stem[:-3]}{part}{dot}{kind}"] = rows
        else:
            split[name] = value
    return split


def resize_kernel(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a patch kernel (out, in, height, width) by bicubic interpolation, in float32.

    Plain interpolation without antialiasing or rescaling, as the SoRA reference converts 14 x 14
    to 16 x 16.
    """
    if tuple(kernel.shape[-2:]) == tuple(size):
        return kernel
    return F.interpolate(kernel.float(), size=size, mode="bicubic", align_corners=False)


def resize_position(position: Tensor, grid: tuple[int, int], *, prefix: int) -> Tensor:
    """Resize a learned position embedding (1, prefix + rows * columns, dim) for good.

    Bicubic by size; the first `prefix` entries, those of class and register tokens, stay. The
    stored grid is taken to be square, as pretrained ones are, unless its length is no square: then
    only its own length is accepted and it stays as it is.
    """
    entries = position.shape[1] - prefix
    side = math.isqrt(max(entries, 0))
    if side * side != entries or (side, side) == tuple(grid):
        return position
    extra, cells = position[:, :prefix], position[:, prefix:]
    cells = cells.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (1, dim, rows, columns)
    cells = F.interpolate(cells, size=grid, mode="bicubic", align_corners=False)
    return torch.cat([extra, cells.flatten(2).transpose(1, 2)], dim=1)


def _resize(state: dict[str, Tensor], net: TimmViT) -> dict[str, Tensor]:
    """Fit the tensors that depend on patch and image size to those of `net`."""
    own = net.state_dict()
    grid = net.patch_embed.grid_size
    prefix = 0 if getattr(net, "no_embed_class", False) else getattr(net, "num_prefix_tokens", 0)
    resized = dict(state)
    for name, value in state.items():
        target = own.get(name)
        if target is None or value.dim() != target.dim() or value.shape[-1:] == (0,):
            continue
        if name == FIRST_LAYER:
            resized[name] = resize_kernel(value, target.shape[-2:])
        elif name == "pos_embed" and value.dim() == 3:
            resized[name] = resize_position(value, grid, prefix=prefix)
        elif name == "pos_embed" and value.shape != target.shape:  # SAM: (1, rows, columns, dim)
            cells = value.permute(0, 3, 1, 2)
            cells = F.interpolate(cells, size=grid, mode="bicubic", align_corners=False)
            resized[name] = cells.permute(0, 2, 3, 1)
        elif name.endswith((".rel_pos_h", ".rel_pos_w")) and len(value) != len(target):
            line = F.interpolate(value.t()[None], size=len(target), mode="linear")
            resized[name] = line[0].t()  # (2 * rows - 1, channel)
    return resized


def _to_timm(state: Mapping[str, Tensor], net: TimmViT, source: str) -> dict[str, Tensor]:
    """Give the tensors of any known layout the names that timm gives them."""
    named = _strip_prefix(state, source)
    own = net.state_dict()
    if any(name.endswith(".attn.qkv.weight") for name in own):
        named = fuse_qkv(named)
    if "register_tokens" in named:
        named = _registers_to_timm(named)
    renamed = {}
    for name, value in named.items():
        for theirs, timms in MLP_NAMES.items():
            name = name.replace(f".mlp.{theirs}.", f".mlp.{timms}.")
        if name.startswith("fc_norm.") and name not in own:
            name = name.removeprefix("fc_")  # the last norm, named after a pooling we do without
        renamed[name] = value
    return renamed


def _registers_to_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Move the position of the class token into the class token: timm stores patch positions."""
    state = dict(state)
    state["reg_token"] = state.pop("register_tokens")
    if "pos_embed" in state and "cls_token" in state:
        state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
        state["pos_embed"] = state["pos_embed"][:, 1:]
    return state


def _strip_prefix(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Keep what stands beside the patch embedding, without the common beginning of its names."""
    prefixes = [name.removesuffix(FIRST_LAYER) for name in state if name.endswith(FIRST_LAYER)]
    if len(prefixes) > 1:
        raise ValueError(f"{source} holds {len(prefixes)} networks: {_shorten(prefixes)}")
    prefix = prefixes[0] if prefixes else ""
    kept = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    if len(kept) < len(state):
        logger.info("kept the %d tensors of %s under %s", len(kept), source, prefix)
    return kept


def _path(file: str | Path) -> Path:
    shipped = ASSETS / f"{file}.safetensors"
    return shipped if str(file) in SHIPPED else Path(file).expanduser()


def _unpickle(path: Path) -> object:
    try:
        return read_tensors(path)
    except ValueError as error:
        raise ValueError(
            f"{path.name} cannot be read as plain tensors: save its state_dict alone, or convert "
            f"it to .safetensors ({error})"
        ) from error


def _open_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is no complete safetensors file ({reason(error)})"
        ) from error


def _shorten(names: Iterable[str], limit: int = 6) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(shown(name[:80]) for name in names[:limit]) + more if names else "nothing"
