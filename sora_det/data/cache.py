"""Files in the user's cache folder: what is known of others, as long as these stay as they are."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)


def cache_path(kind: str, about: str, ending: str) -> Path | None:
    """Where something is kept: `sora_det/<kind>` in the user's cache folder.

    That folder is the one that the environment variable XDG_CACHE_HOME names, or ~/.cache. A user
    may have neither: then it is None.

    Args:
        kind: of what is kept, a folder of its own.
        about: a text that differs wherever what is kept may differ; it becomes the file's name.
        ending: of the file.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if base.startswith("~"):
        return None
    digest = hashlib.sha256(about.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return Path(base) / "sora_det" / kind / f"{digest}{ending}"


def write_whole(file: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a file; whoever reads it meanwhile finds the former or the whole new one.

    A cache that cannot be written is a warning: all will be looked at again.
    """
    draft = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "wb", dir=file.parent, prefix=f".{file.name}.", delete=False
        ) as stream:
            draft = Path(stream.name)
            write(stream)
        draft.replace(file)
    except OSError as error:
        logger.warning("%s: not written: %s", file, error)
        if draft is not None:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
