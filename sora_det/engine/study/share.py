"""Results of other studies that trained and scored the very same: nobody makes them again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .configure import Key
from .plan import Run
from .read import slug
from .result import Result, read_result


def borrowed(run: Run, key: Key, *, study: str, folder: Path) -> Result | None:
    """Return the result of the same training from a folder beside `folder`, None if there is none.

    Args:
        run: that is wanted.
        key: what it trains; rate and seed are part of its config.
        study: that it is for.
        folder: with the results of that study.
    """
    end = run.name.removeprefix(slug(run.method))
    for file in sorted(folder.parent.glob(f"*/*{end}.json")):
        if file.parent == folder:
            continue
        try:
            found = read_result(file)
        except (OSError, ValueError):  # of no concern to this study
            continue
        if (found.phase, found.key) == (run.phase, key):
            origin = found.borrowed_from or f"{file.parent.name}/{file.stem}"
            return replace(found, study=study, method=run.method, borrowed_from=origin)
    return None
