"""Training hooks: pure functions of the iteration, so that resuming is free."""

import json
import logging
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..data.loader import Skipped
from ..untrusted.text import reason
from .files import append
from .metrics import keep_lines

logger = logging.getLogger(__name__)


def cosine(start: float, end: float, progress: float) -> float:
    """Go from `start` at progress 0 to `end` at progress 1 along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


class AnnealWeightDecay(HookBase):
    """Anneal the weight decay of the groups of `roles` by cosine (arXiv 2412.04077, sec. 3.3).

    wd(t) = end + (wd_0 - end) (1 + cos(pi t / T)) / 2, with wd_0 the group's own.

    Args:
        end: weight decay at the end of training, the same for all groups.
        roles: the groups to anneal. None means every group, as the reference code does it, where
            the groups without weight decay even rise from 0 to `end`.
    """

    def __init__(self, *, end: float = 1e-5, roles: Sequence[str] | None = ("adapter",)) -> None:
        self.end = end
        self.roles = None if roles is None else tuple(roles)

    def before_train(self) -> None:
        present = sorted({str(group.get("role")) for group in self.trainer.optimizer.param_groups})
        missing = [role for role in self.roles or () if role not in present]
        if missing:
            raise ValueError(f"no parameter group has role {missing[0]!r}, only {present}")

    def before_step(self) -> None:
        progress = self.trainer.iter / self.trainer.max_iter
        for group in self.trainer.optimizer.param_groups:
            if self.roles is None or group.get("role") in self.roles:
                group["weight_decay"] = cosine(group["initial_weight_decay"], self.end, progress)


class LogRates(HookBase):
    """Record the learning rate and weight decay that the step just done has used, per role."""

    def after_step(self) -> None:
        for group in self.trainer.optimizer.param_groups:
            role = group.get("role", "all")
            for kind in ("lr", "weight_decay"):
                name = f"{kind}/{role}"
                self.trainer.storage.put_scalar(name, group[kind], smoothing_hint=False)


class Validate(HookBase):
    """Call `evaluate` every `period` iterations, but not at the last, and record its scores.

    Args:
        period: in iterations; 0 means never.
        evaluate: returns scalars by name; it must leave the model's mode as it found it.
    """

    def __init__(self, period: int, evaluate: Callable[[], dict[str, float]]) -> None:
        self.period, self.evaluate = period, evaluate

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self.period > 0 and done % self.period == 0 and done < self.trainer.max_iter:
            for name, value in self.evaluate().items():
                self.trainer.storage.put_scalar(name, value, smoothing_hint=False)


class LogSkipped(HookBase):
    """Write down every bad image that another one stood in for, of all processes, and count them.

    Each is a line of JSON: iteration, image_id, file, reason. Before training, lines of iterations
    that are about to be repeated are dropped. The number of lines is the metric skipped_images.

    Args:
        file: to append to; the first process does it.
    """

    def __init__(self, file: str | Path) -> None:
        self.file, self.count = Path(file), 0
        self.found: list[Skipped] = []
        self.told: set[Skipped] = set()

    def watch(self, batches: Iterable[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
        """Pass on what `train_loader` gives; the hook then knows of it."""
        # Begun here and now: a DataLoader draws a random number when it begins, which the first
        # step, whose numbers follow from its iteration, must not notice.
        return map(self._note, iter(batches))

    def _note(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for image in batch:
            self.found += image.get("skipped", ())
        return batch

    def before_train(self) -> None:
        if comm.is_main_process():
            self.count = len(keep_lines(self.file, self.trainer.start_iter))

    def after_step(self) -> None:
        found = [one for part in comm.gather(self.found) for one in part]  # none elsewhere
        self.found = []
        if found:
            self._write(found)
        if self.count:
            self.trainer.storage.put_scalar("skipped_images", self.count, smoothing_hint=False)

    def _write(self, found: Sequence[Skipped]) -> None:
        self.count += len(found)
        rows = [{"iteration": self.trainer.iter, **asdict(one)} for one in found]
        append(self.file, "".join(json.dumps(row) + "\n" for row in rows))
        for one in dict.fromkeys(found):
            if one not in self.told:
                logger.warning("%s: another image stands in for it", one.reason)
        self.told.update(found)


class ShowMetrics(HookBase):
    """Let writers show the metrics every `period` iterations, and after the last.

    Training does not need them: one that fails is given up, with a warning, and none of them can
    hide what has ended a training.

    Args:
        writers: Detectron2's, or others like them.
        period: in iterations.
    """

    def __init__(self, writers: Iterable[EventWriter], period: int) -> None:
        self.writers, self.period = list(writers), period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.period == 0 or done == self.trainer.max_iter:
            self._each(lambda writer: writer.write())

    def after_train(self) -> None:
        self._each(lambda writer: writer.close())

    def _each(self, act: Callable[[EventWriter], object]) -> None:
        for writer in list(self.writers):
            try:
                act(writer)
            except Exception as error:
                self.writers.remove(writer)
                logger.warning("%s is given up: %s", type(writer).__name__, reason(error))


class ProgressLine(HookBase):
    """Show the iterations done, the time left and the loss on a terminal; nothing in a log.

    What is logged to the terminal meanwhile goes above the line.
    """

    def __init__(self) -> None:
        self.shown = ExitStack()

    def before_train(self) -> None:
        first, total = self.trainer.iter, self.trainer.max_iter
        terminal = sys.stderr.isatty()
        self.bar = self.shown.enter_context(
            tqdm(initial=first, total=total, unit="it", disable=not terminal, dynamic_ncols=True)
        )
        if terminal:
            self.shown.enter_context(logging_redirect_tqdm(console_loggers()))

    def after_step(self) -> None:
        self.bar.update()
        if self.trainer.iter % 10 == 0 and "total_loss" in self.trainer.storage.latest():
            loss = self.trainer.storage.latest()["total_loss"][0]
            self.bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

    def after_train(self) -> None:
        self.shown.close()  # also called if training could not begin, without a bar


def console_loggers() -> list[logging.Logger]:
    """Return the loggers that write to the terminal by a handler of their own."""
    named = [x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger)]
    streams = (sys.stdout, sys.stderr)
    return [
        logger
        for logger in (logging.root, *named)
        if any(getattr(handler, "stream", None) in streams for handler in logger.handlers)
    ]
