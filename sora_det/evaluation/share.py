"""Work that one process does for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from detectron2.utils import comm

Result = TypeVar("Result")


def on_main_process(action: Callable[[], Result]) -> Result:
    """Run on the first process; every process gets the result.

    Raises:
        RuntimeError: on the other processes, if `action` raised anything on the first.
    """
    if comm.get_world_size() == 1:
        return action()
    result, failure, error = None, "", None
    if comm.is_main_process():
        try:
            result = action()
        except Exception as caught:  # whatever it is, the others wait and must hear of it
            error, failure = caught, f"{type(caught).__name__}: {caught}"
    shared, failure = comm.all_gather((result, failure))[0]
    if error is not None:
        raise error
    if failure:
        raise RuntimeError(f"the first process failed with {failure}")
    return cast(Result, shared)
