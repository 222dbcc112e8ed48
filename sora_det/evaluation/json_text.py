"""A JSON document of any size, a piece of it in memory at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

BLOCK = 1 << 22  # characters read at a time
NEAR = 100  # characters from the end, where a document is taken to be cut off

_decode = json.JSONDecoder().raw_decode  # value and end of the JSON at a place in a text
_space = re.compile(r"[ \t\n\r]*").match


class JsonText:
    """A JSON text of which a piece at a time is in memory."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream, self.text, self.at, self.before = stream, "", 0, 0

    def value(self) -> Any:
        """Decode the value that begins here."""
        self.skip()
        while True:
            try:
                value, end = _decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if not self.more():
                    raise self.broken(error.msg, error.pos) from error
                continue
            if end < len(self.text) or not self.more():  # a number could go on
                self.at = end
                return value

    def symbol(self) -> str:
        """Take the next character that is no space, "" at the end."""
        self.skip()
        self.at += 1
        return self.text[self.at - 1 : self.at]

    def expect(self, allowed: str) -> str:
        """Take the next character, one of those allowed."""
        found = self.symbol()
        if not found or found not in allowed:
            self.at -= 1
            raise self.broken(f"{' or '.join(allowed)} is missing")
        return found

    def skip(self) -> None:
        """Pass over spaces."""
        while True:
            self.at = _space(self.text, self.at).end()  # type: ignore[union-attr]  # always matches
            if self.at < len(self.text) or not self.more():
                return

    def more(self) -> bool:
        """Read on, ever more for one value, and forget what has been passed; False at the end."""
        left = len(self.text) - self.at
        new = self.stream.read(max(BLOCK, left))
        if new:
            self.before += self.at
            self.text, self.at = self.text[self.at :] + new, 0
        return bool(new)

    def broken(self, problem: str, at: int | None = None) -> ValueError:
        """Return the error for a document with a problem at this place, or at another one."""
        if not self.before and not self.text.strip():
            return ValueError("the file is empty: a run without detections is written as []")
        at = self.at if at is None else at
        left = len(self.text) - at + len(self.stream.read(NEAR))
        hint = ", where the file ends: is it cut off?" if left < NEAR else ""
        return ValueError(f"not JSON: {problem} at character {self.before + at}{hint}")

    def items(self) -> Iterator[Any]:
        """Yield the values of the list that has just been opened."""
        if self.symbol() == "]":
            return
        self.at -= 1
        while True:
            yield self.value()
            if self.expect(",]") == "]":
                return
