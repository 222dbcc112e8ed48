"""One malicious file: how it is made, who reads it, and what has to happen."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CANARY = "canary"  # a file that an attack makes if any of its code runs


@dataclass(frozen=True)
class Case:
    """An attack on a reader.

    Attributes:
        kind: of attack, for the tally.
        name: unlike the others'.
        make: writes the file into a folder and returns its path.
        read: is given that path.
        refused: the exceptions that count as refusal; none if the file is to be read as if it were
            harmless, and `read` checks that it was.
    """

    kind: str
    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    refused: tuple[type[Exception], ...] = (ValueError,)


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    """Return what writes a file of this name and content."""

    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return write


def each(
    kind: str,
    name: str,
    content: bytes,
    readers: dict[str, tuple[str, Callable[[Path], object]]],
) -> Iterator[Case]:
    """Yield a case for every reader, by its name: what to call the file, and what reads it."""
    for reader, (file, read) in readers.items():
        yield Case(kind, f"{name} as {file}, for {reader}", written(file, content), read)
