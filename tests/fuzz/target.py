"""One reader under test, and what it may do with a file: return a value, or explain itself."""

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .mutations import Maker

LIBRARY = Path(__file__).resolve().parents[2] / "sora_det"
LONGEST = 5000  # characters of a message
Outcome = Literal["read", "refused"]


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        make: what to read.
        file: name of the file that an input is written to.
        read: reads that file, and uses what it gets as the project does.
        errors: the only types of exceptions that may come out, not their subclasses either.
        named: every message names the file.
        prepare: writes what else there is to be in the folder.
    """

    make: Maker
    file: str
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...] = (ValueError,)
    named: bool = True
    prepare: Callable[[Path], object] = lambda folder: None


def execute(target: Target, folder: Path, data: bytes) -> Outcome:
    """Read an input in a folder that `target.prepare` has seen.

    Raises:
        Exception: any other than those of the target.
        AssertionError: one of these, but raised by Python or a library, without the name of the
            file or with characters that a terminal would obey. Of log messages the last holds too.
    """
    path = folder / target.file
    path.write_bytes(data)
    log = _Log()
    logger = logging.getLogger("sora_det")
    logger.addHandler(log)
    try:
        target.read(path)
    except Exception as error:
        if type(error) not in target.errors:
            raise
        check_message(error, path.name if target.named else "")
        return "refused"
    finally:
        logger.removeHandler(log)
        for message in log.messages:
            check_shown(message)
    return "read"


def check_message(error: Exception, name: str) -> None:
    last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    assert last.is_relative_to(LIBRARY), f"raised in {last}: {error!r}"
    assert name in str(error), f"without the name of the file: {error!r}"
    assert len(str(error)) <= LONGEST, f"{len(str(error))} characters: {str(error)[:200]!r}"
    check_shown(str(error))


def check_shown(text: str) -> None:
    """Raise AssertionError unless a terminal can show every line of a text."""
    for line in text.split("\n"):
        assert line.isprintable(), f"not fit for a terminal: {line[:500]!r}"


class _Log(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
