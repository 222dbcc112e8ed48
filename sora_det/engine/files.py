"""Files that are whole or not there, and that say when they were damaged."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_ADVICE = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "the quota is used up: make room",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "there is no permission to write there",
    errno.EPERM: "there is no permission to write there",
    errno.ENOENT: "the folder has vanished",
    errno.EIO: "the disk reports a fault",
}


def write_whole(path: Path, write: Callable[[BinaryIO], object], *, checksum: bool = False) -> None:
    """Write a file so that whoever looks finds the former one or the whole new one.

    The bytes are on the disk before the name is, and the name before this returns: a power cut at
    any moment leaves one of the two. With `checksum`, `<name>.sha256` goes before the file itself,
    as `sha256sum -c` reads it.

    Args:
        path: in a folder that exists.
        write: writes everything into the file it is given, front to back.
        checksum: keep one beside the file.

    Raises:
        OSError: with the cause in words; former files are as they were.
    """
    draft = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        draft = Path(name)
        with os.fdopen(handle, "wb") as file:
            hashed = _Hashed(file)
            write(hashed)  # type: ignore[arg-type]  # what torch.save needs of a file, no more
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o644)  # mkstemp makes files that only their owner may read
        if checksum:
            _write_checksum(path, hashed.found.hexdigest())
        draft.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save turns some OSErrors into RuntimeErrors
        if draft is not None:
            draft.unlink(missing_ok=True)
        raise _explained(path, error) from error
    except BaseException:
        if draft is not None:
            draft.unlink(missing_ok=True)
        raise


def append(path: Path, text: str) -> None:
    """Add to a file, and return when it is on the disk.

    Raises:
        OSError: with the cause in words.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _explained(path, error) from error


def damage(path: Path) -> str:
    """Say what is wrong with a file that has a checksum, "" if nothing is or there is none."""
    if not path.is_file():
        return "it is missing"
    try:
        with checksum_file(path).open(encoding="ascii") as file:
            known = file.read(1000).split()[0]
    except (OSError, UnicodeDecodeError, IndexError):
        return ""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return "" if found == known else "its checksum differs"


def checksum_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


class _Hashed:
    """A file that hashes what goes into it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.found = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.found.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _write_checksum(path: Path, digest: str) -> None:
    # Two checksums would be needed for the moment in which the old file stands beside the new
    # checksum; a new checkpoint has a new name, and a final one is not replaced by another.
    write_whole(checksum_file(path), lambda file: file.write(f"{digest}  {path.name}\n".encode()))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explained(path: Path, error: Exception) -> OSError:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    code = cause.errno if isinstance(cause, OSError) else None
    advice = _ADVICE.get(code or 0, str(error))
    if not path.parent.is_dir():
        advice = _ADVICE[errno.ENOENT]
    return OSError(code or errno.EIO, f"cannot write {path}: {advice}")
