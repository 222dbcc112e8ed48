"""The one exception of this package, and values of files in its messages."""

import reprlib


class AdaptationError(ValueError):
    """An adaptation was asked for that cannot be had; the message says what to do.

    The network in question is left as it was.
    """


def brief(value: object) -> str:
    """Write a value from a file as Python does, on one short line that a terminal can show."""
    return repr(value[:200]) if isinstance(value, str) else reprlib.repr(value)
