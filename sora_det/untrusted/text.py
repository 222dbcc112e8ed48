"""Texts from files, made fit for a terminal, a log or a message."""

from __future__ import annotations


def shown(text: object) -> str:
    r"""Return a text in which whatever cannot be printed is written as its escape.

    A name from a file cannot then colour or clear a terminal, begin a line of its own in a log, or
    turn the direction of the text around it: ESC becomes \x1b, a line break \n.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def reason(error: object, most: int = 1000) -> str:
    """Return what an exception says, or another text, fit to show and at most `most` characters."""
    text = str(error) or type(error).__name__
    return shown(text[:most])[:most]


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
