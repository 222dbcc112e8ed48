"""Hooks that keep a run: checkpoints every so often, and one more when it is asked to stop."""

import logging
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from detectron2.engine import HookBase, TrainerBase
from detectron2.utils import comm

from .checkpoint import FINAL, Checkpoints

logger = logging.getLogger(__name__)

STOPPED = 75  # "temporary failure, try again" of sysexits.h
SIGNALS = (signal.SIGTERM, signal.SIGINT)
State = Callable[[TrainerBase], Mapping[str, Any]]


class SaveCheckpoints(HookBase):
    """Write a checkpoint every `period` iterations, after the last one, and when asked to stop.

    SIGTERM or SIGINT let the step end and all processes stop after the same one, with the exit
    code 75, by which a scheduler knows that `--resume` will go on. A second signal ends at once.
    To be the last hook, so that a checkpoint stands for all that an iteration does.

    Args:
        store: where to.
        state: returns what to write of a trainer.
        period: in iterations.
    """

    def __init__(self, store: Checkpoints, state: State, period: int) -> None:
        self.store, self.state, self.period = store, state, period
        self._former: dict[int, Any] = {}

    def before_train(self) -> None:
        if threading.current_thread() is threading.main_thread():  # others cannot handle signals
            self._former = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter:
            self._write(FINAL.removesuffix(".pth"))
        elif done % self.period == 0 or self.trainer.stop_agreed:
            self._write(f"model_{self.trainer.iter:07d}")
        if self.trainer.stop_agreed and done < self.trainer.max_iter:
            logger.warning("stopped after iteration %d as asked; --resume goes on", done - 1)
            raise SystemExit(STOPPED)

    def after_train(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def _write(self, name: str) -> None:
        if comm.is_main_process():
            self.store.write(name, self.state(self.trainer))

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.trainer.stop_asked:
            raise KeyboardInterrupt
        logger.warning("%s: stopping after this step", signal.Signals(number).name)
        self.trainer.stop_asked = True
