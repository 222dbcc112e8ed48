"""Zip files that hold no more than they are long: no compression, nothing twice, one reading."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

# The three records that end a zip file (APPNOTE.TXT, 4.3.14 to 4.3.16).
_END = struct.Struct("<4s4H2LH")  # signature, disks and counts, size and place of the list, comment
_LOCATOR = struct.Struct("<4sLQL")  # signature, disk, place of the next one, number of disks
_END64 = struct.Struct("<4sQ2H2L4Q")  # as the first, in 64 bits


def members(path: Path) -> dict[str, int]:
    """Return the sizes in bytes of what a zip file holds, by name.

    Members must be stored as they are, as PyTorch and `numpy.savez` do, so that reading them needs
    no more memory than the file has bytes. The list of members must end the file: a file in which
    two libraries could find two lists is refused.

    Raises:
        OSError: the file cannot be read.
        ValueError: no such zip file.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            _check_end(file, size)
        with zipfile.ZipFile(path) as archive:
            listed = archive.infolist()
    except OSError:
        raise
    except Exception as error:  # zipfile has no common one for what damaged files make it raise
        raise ValueError(f"it is no whole zip file ({error})") from error
    found = {member.filename: member.file_size for member in listed}
    if len({name.lower() for name in found}) < len(listed):  # PyTorch takes A and a for one
        raise ValueError("it holds two members of one name")
    for member in listed:
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise ValueError("it is compressed or encrypted, which no such file is")
    if sum(found.values()) > size:
        raise ValueError(f"its members claim {sum(found.values())} bytes, of {size} in all")
    return found


def _check_end(file: BinaryIO, size: int) -> None:
    """Raise ValueError unless the list of members stands right before the records of the end."""
    place = size - _END.size
    signature, *_, length, start, comment = _END.unpack(_at(file, place, _END.size))
    if signature != b"PK\5\6" or comment:
        raise ValueError("it does not end as a zip file does")
    before = place - _LOCATOR.size
    if before >= 0:
        signature, _, place64, _ = _LOCATOR.unpack(_at(file, before, _LOCATOR.size))
        if signature == b"PK\6\7":
            place = before - _END64.size
            signature, *_, length, start = _END64.unpack(_at(file, place, _END64.size))
            if place64 != place or signature != b"PK\6\6":
                raise ValueError("the places of its ends contradict each other")
    if start + length != place:
        raise ValueError("its list of members does not end it")


def _at(file: BinaryIO, place: int, length: int) -> bytes:
    if place < 0:
        raise ValueError("it is too short")
    file.seek(place)
    return file.read(length)
