"""Hooks for a config's `hooks`, by which tests see what happens inside `fit`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from detectron2.engine import HookBase

from sora_det.data import train_loader
from tests.tools.tiny_run import tensors


class Watch(HookBase):
    """Keeps what the training starts from and ends with, and the rates of every iteration."""

    last: ClassVar["Watch"]

    def __init__(self) -> None:
        Watch.last = self
        self.rates: dict[int, dict[str, tuple[float, float]]] = {}  # lr and weight decay by role

    def before_train(self) -> None:
        self.first_iteration = self.trainer.iter
        self.roles = _roles(self.trainer)
        self.before = tensors(self.trainer.model)

    def after_step(self) -> None:
        groups = self.trainer.optimizer.param_groups
        self.rates[self.trainer.iter] = {g["role"]: (g["lr"], g["weight_decay"]) for g in groups}

    def after_train(self) -> None:
        self.after = tensors(self.trainer.model)


class Seen:
    """Stands in for the training loader and keeps the names of the images it has handed out."""

    names: ClassVar[list[str]] = []

    @staticmethod
    def loader(**options: Any) -> Iterator[list[dict[str, Any]]]:
        for batch in train_loader(**options):
            Seen.names += [Path(image["file_name"]).name for image in batch]
            yield batch


class Crash(HookBase):
    """Ends a run before iteration `at`, as a power cut does."""

    def __init__(self, at: int) -> None:
        self.at = at

    def before_step(self) -> None:
        if self.trainer.iter == self.at:
            raise RuntimeError("power cut")


class Bring(HookBase):
    """Puts folders in place only when training has ended."""

    def __init__(self, aside: str, place: str) -> None:
        self.aside, self.place = Path(aside), Path(place)

    def after_train(self) -> None:
        for folder in self.aside.iterdir():
            folder.rename(self.place / folder.name)


def _roles(trainer: Any) -> dict[str, str]:
    """Return the role of every trained parameter, by name."""
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    groups = trainer.optimizer.param_groups
    return {names[id(p)]: group["role"] for group in groups for p in group["params"]}
