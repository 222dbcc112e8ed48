"""Hooks that keep a run: checkpoints every so often, and one more when it is asked to stop."""

import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import FrameType
from typing import Any

from detectron2.engine import HookBase, TrainerBase
from detectron2.utils import comm

from .checkpoint import FINAL, Checkpoints
from .stop import STOPPED, stop_signals

logger = logging.getLogger(__name__)

State = Callable[[TrainerBase], Mapping[str, Any]]


class SaveCheckpoints(HookBase):
    """Write a checkpoint every `period` iterations, after the last one, and when asked to stop.

    SIGTERM, SIGINT and SIGUSR2 let the step end and all processes stop after the same one, with
    the exit code 75, by which a scheduler knows that `--resume` will go on. A second SIGINT ends at
    once; of the others more than one may come, from a scheduler and from what started the process.
    To be the last hook, so that a checkpoint stands for all that an iteration does.

    Args:
        store: where to.
        state: returns what to write of a trainer.
        period: in iterations.
    """

    def __init__(self, store: Checkpoints, state: State, period: int) -> None:
        self.store, self.state, self.period = store, state, period
        self._handling = ExitStack()
        self._interrupted = False

    def before_train(self) -> None:
        self._handling.enter_context(stop_signals(self._ask))

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter:
            self._write(FINAL.removesuffix(".pth"))
        elif done % self.period == 0 or self.trainer.stop_agreed:
            self._write(f"model_{self.trainer.iter:07d}")
        if self.trainer.stop_agreed:  # after the last step, too: what follows can take long
            comm.synchronize()  # with the checkpoint: the first to end has the others ended
            logger.warning("stopped after iteration %d as asked; --resume goes on", done - 1)
            raise SystemExit(STOPPED)

    def after_train(self) -> None:
        self._handling.close()

    def _write(self, name: str) -> None:
        processes = comm.gather(self.trainer.local_state())
        if comm.is_main_process():
            self.store.write(name, {**self.state(self.trainer), "processes": processes})

    def _ask(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted |= number == signal.SIGINT
        if not self.trainer.stop_asked:
            logger.warning("%s: stopping after this step", signal.Signals(number).name)
        self.trainer.stop_asked = True
