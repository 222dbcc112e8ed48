"""What is known of files from an earlier audit, as long as their time and size are the same."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import PIL

from ..cache import cache_path, write_whole
from .examine import VERSION, Picture, Sheet, Thing

logger = logging.getLogger(__name__)

Facts = Picture | Sheet
Stamp = tuple[int, int]  # time of the last change in ns, bytes

# Facts may depend on all of these.
_MAKER = {"version": VERSION, "pillow": PIL.__version__}


def cache_file(root: Path) -> Path | None:
    """Where facts of the files below `root` are kept; None for a user without a home."""
    return cache_path("audit", os.path.realpath(root), ".json")


def stamp(file: Path) -> Stamp | None:
    """Time and size of a file, None without one."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def read_cache(file: Path) -> dict[str, tuple[Stamp, Facts]]:
    """Read facts by the paths of files; none from a cache that is missing, damaged or outdated."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["maker"] != _MAKER:
            return {}
        return {path: _unpack(*row) for path, row in content["files"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        logger.warning("%s: not used, it cannot be read: %r", file, error)
        return {}


def write_cache(file: Path, facts: Mapping[str, tuple[Stamp, Facts]]) -> None:
    """Write facts to a cache, in place of all that it held.

    Of two audits that end at once one may lose its facts.
    """
    rows = {path: [*when, *_pack(known)] for path, (when, known) in facts.items()}
    text = json.dumps({"maker": _MAKER, "files": rows}, separators=(",", ":"))
    write_whole(file, lambda stream: stream.write(text.encode("utf-8")))


def _pack(facts: Facts) -> list[Any]:
    return ["picture" if isinstance(facts, Picture) else "sheet", *astuple(facts)]


def _unpack(time: int, size: int, kind: str, *fields: Any) -> tuple[Stamp, Facts]:
    if kind == "picture":
        return (time, size), Picture(*fields)
    problem, stated, things = fields
    return (time, size), Sheet(
        problem,
        None if stated is None else (stated[0], stated[1]),
        tuple(Thing(label, None if box is None else tuple(box), why) for label, box, why in things),
    )
