"""How a process is asked to stop, and how it says that it has."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = 75  # "temporary failure, try again" of sysexits.h
DIVERGED = 65  # "the data are wrong": the training found no finite numbers any more
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # the last is submitit's

Handler = Callable[[int, FrameType | None], None]


@contextmanager
def stop_signals(handler: Handler) -> Iterator[None]:
    """Handle what asks this process to stop; in another thread than its main one, do nothing."""
    if threading.current_thread() is not threading.main_thread():  # others cannot handle signals
        yield
        return
    former = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)
