"""Checkpoints: what training changes, written so that none is lost, read without running code."""

import hashlib
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import Tensor, nn

from ..adapt.low_rank import LowRankLinear, residual
from ..adapt.record import digest, recall
from ..untrusted.tensors import read_tensors
from ..untrusted.text import shown
from .files import checksum_file, damage, write_whole

logger = logging.getLogger(__name__)

POINTER = "last_checkpoint"  # names the newest file, as Detectron2's own checkpoints do
FINAL = "model_final.pth"
_NAME = re.compile(r"model_(\d{7,}|final)\.pth")


@dataclass
class Origin:
    """What the backbone of a checkpoint started from; kept in it, as the model does not show it.

    Attributes:
        weights: where the pretrained weights came from, in words.
        random_init: it started untrained.
    """

    weights: str = ""
    random_init: bool = False


class Checkpoints:
    """The checkpoints of one run, in its output folder.

    A file is complete and on the disk before the pointer names it, has a checksum beside it, and
    the newest `keep` remain. A damaged one is passed over for the one before it.

    Args:
        folder: exists.
        keep: number of files to keep, the final one apart.
    """

    def __init__(self, folder: str | Path, *, keep: int = 3) -> None:
        self.folder, self.keep = Path(folder), keep

    def files(self) -> list[Path]:
        """Return all of them, the oldest first."""
        found = [path for path in self.folder.glob("model_*.pth") if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: (path.name == FINAL, path.name))

    def write(self, name: str, state: Mapping[str, Any]) -> Path:
        """Write `<name>.pth`, then point to it, then drop what is too old.

        Raises:
            OSError: with the cause in words; the checkpoints before are as they were.
        """
        path = self.folder / f"{name}.pth"
        write_whole(path, lambda file: torch.save(dict(state), file), checksum=True)
        write_whole(self.folder / POINTER, lambda file: file.write(path.name.encode()))
        logger.info("checkpoint %s, %.1f MB", path, path.stat().st_size / 1e6)
        for old in [file for file in self.files() if file.name != FINAL][: -self.keep]:
            old.unlink()
            checksum_file(old).unlink(missing_ok=True)
        for draft in self.folder.glob(".model_*"):  # of a process that was killed
            draft.unlink(missing_ok=True)
        return path

    def read_newest(self) -> tuple[Path, dict[str, Any]] | None:
        """Read the newest file that is whole, None if there is no file at all.

        Raises:
            ValueError: there are some, and every one is damaged.
        """
        files = self.files()
        for path in reversed(files):
            try:
                return path, read_checkpoint(path)
            except (OSError, ValueError) as error:
                logger.warning("%s: going back to the one before", error)
        if files:
            raise ValueError(f"every checkpoint in {self.folder} is damaged; start anew elsewhere")
        return None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, ours or another with its weights under "model" or on their own.

    Nothing but tensors and plain values is accepted, so that no file can run code, and no tensor
    of more bytes than the file has.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if path.suffix == ".pkl":
        raise ValueError(
            f"{path} is a pickle, which can run any code when it is read: if you trust its source, "
            "allow it with train.allow_pickle=true"
        )
    if fault := damage(path):
        raise ValueError(f"{path} is damaged: {fault}")
    try:
        state = read_tensors(path)
    except ValueError as error:
        raise ValueError(
            f"{path} is no checkpoint of tensors and plain values, or a damaged one: {error}"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a checkpoint")
    state = state if "model" in state else {"model": state}
    if fault := _fault(state, path.stat().st_size):
        raise ValueError(f"{path} is no checkpoint: {fault}")
    return state


def _fault(state: Mapping[str, Any], size: int) -> str:
    """Say what is wrong with a checkpoint in a file of `size` bytes, "" if nothing is."""
    if not isinstance(state["model"], dict):
        return f"its model is a {type(state['model']).__name__}"
    for name, value in state["model"].items():
        if type(name) is not str or not isinstance(value, Tensor):
            return f"{shown(name)[:80]} in its model is a {type(value).__name__}, not a tensor"
        if value.nbytes > size:
            return f"{shown(name)[:80]} claims {value.nbytes} bytes, of {size} in all"
    wrong = [name for name, known in _PARTS.items() if name in state and not known(state[name])]
    return f"its part {wrong[0]} is malformed" if wrong else ""


def _is_omitted(part: Any) -> bool:
    if type(part) is not dict or part.keys() != {"names", "fingerprint"}:
        return False
    names, found = part["names"], part["fingerprint"]
    return type(names) is list and {type(text) for text in (*names, found)} == {str}


def _is_origin(part: Any) -> bool:
    kinds = {field.name: field.type for field in fields(Origin)}
    return type(part) is dict and {key: type(value) for key, value in part.items()} == kinds


def _is_trainer(part: Any) -> bool:
    return type(part) is dict and type(part.get("iteration")) is int


_PARTS = {"omitted": _is_omitted, "origin": _is_origin, "trainer": _is_trainer}


def load_foreign(model: nn.Module, path: str) -> None:
    """Load a pickle of Detectron2's model zoo, which may run code, as far as its names fit."""
    logger.warning("reading the pickle %s: it can run any code", path)
    DetectionCheckpointer(model).load(path, checkpointables=[])


def model_state(model: nn.Module, *, whole: bool) -> dict[str, Any]:
    """Return what a checkpoint holds of a model.

    Args:
        model: a detector.
        whole: everything. Otherwise the frozen parameters of its backbone are left out; they can
            be made again from the pretrained weights, and are known by their fingerprint.

    Returns:
        "model", tensors by name; "omitted", names and fingerprint of what was left out.
    """
    state = model.state_dict()
    names = [] if whole else _frozen(model)
    return {
        "model": {name: value for name, value in state.items() if name not in set(names)},
        "omitted": {"names": names, "fingerprint": fingerprint(model, names) if names else ""},
    }


def load_model(model: nn.Module, checkpoint: Mapping[str, Any], *, name: str = "it") -> None:
    """Load what `read_checkpoint` has read, if every key and shape fits.

    Raises:
        ValueError: names what is missing, unexpected or of another shape, or says that frozen
            weights which the checkpoint counts on are others. The model is as it was.
    """
    saved: Mapping[str, Tensor] = checkpoint["model"]
    saved = {key.removeprefix("module."): value for key, value in saved.items()}
    omitted = checkpoint.get("omitted", {"names": [], "fingerprint": ""})
    own = model.state_dict()
    parameters = {key for key, _ in model.named_parameters()}
    if problems := _misfits(own, saved, omitted["names"], parameters):
        raise ValueError(
            f"{name} does not fit the model ({problems}); was it made by another config?"
        )
    if omitted["names"] and fingerprint(model, omitted["names"]) != omitted["fingerprint"]:
        raise ValueError(
            f"{name} holds only what was trained, on other pretrained weights than those loaded "
            "here: pass the same backbone.net.weights"
        )
    layers = _starts(model) if omitted["names"] else {}
    for layer, module in layers.items():
        _rebase(module, saved[f"{layer}.up0"], saved[f"{layer}.down0"])
    model.load_state_dict(saved, strict=False)


def fingerprint(model: nn.Module, names: list[str]) -> str:
    """Return one SHA-256 over parameters; an adapted layer counts with its original weight."""
    known: dict[str, str] = {}
    for path, module in model.named_modules():
        record = recall(module)
        if record is not None:
            prefix = f"{path}." if path else ""
            known |= {f"{prefix}{layer}.": found for layer, found in record.digests.items()}
    found = hashlib.sha256()
    for name in names:
        known_or_not = known.get(_layer(name)) or digest(model.get_parameter(name))
        found.update(f"{name} {known_or_not}\n".encode())
    return found.hexdigest()


def _layer(name: str) -> str:
    """`<layer>.` of a residual, which differs in its last bits from machine to machine."""
    return re.sub(r"(direction\.)?residual$", "", name) if name.endswith("residual") else ""


def _frozen(model: nn.Module) -> list[str]:
    """Name the frozen parameters of the backbone."""
    backbone = model.get_submodule("backbone")
    parameters = backbone.named_parameters(prefix="backbone")
    return sorted(name for name, parameter in parameters if not parameter.requires_grad)


def _starts(model: nn.Module) -> dict[str, LowRankLinear]:
    """Return the layers whose low-rank term was taken out of the weight."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, LowRankLinear) and layer.up0 is not None
    }


@torch.no_grad()
def _rebase(layer: LowRankLinear, up0: Tensor, down0: Tensor) -> None:
    """Take another start out of the original weight, that of the machine that trained.

    Nothing is touched where the starts agree, as they do when a run goes on in its own folder.
    """
    assert layer.up0 is not None
    assert layer.down0 is not None
    if torch.equal(layer.up0.cpu(), up0) and torch.equal(layer.down0.cpu(), down0):
        return
    parts = layer.residual.unflatten(0, (layer.groups, -1))
    weight = residual(parts, layer.up0, layer.down0, -layer.scale)
    other = residual(weight, up0.to(weight.device), down0.to(weight.device), layer.scale)
    layer.residual.copy_(other.flatten(0, 1))


def _misfits(
    own: Mapping[str, Tensor],
    saved: Mapping[str, Tensor],
    omitted: list[str],
    parameters: Collection[str],
) -> str:
    """Say how what a checkpoint holds differs from what a model has, "" if it does not."""
    left_out = set(omitted)
    problems = {
        "missing": [name for name in own if name not in saved and name not in left_out],
        "unexpected": [name for name in saved if name not in own]
        + [name for name in omitted if name not in parameters],
        "of another shape": [
            name for name, value in saved.items() if name in own and own[name].shape != value.shape
        ],
    }
    return "; ".join(
        f"{len(names)} {what}: {_some(names)}{' ...' if len(names) > 5 else ''}"
        for what, names in problems.items()
        if names
    )


def _some(names: list[str]) -> str:
    return ", ".join(shown(name[:80]) for name in names[:5])
