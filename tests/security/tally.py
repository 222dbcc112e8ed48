"""All malicious files, read one after the other in a process of limited memory.

    python -m tests.security.tally

prints how many of each kind were refused, or read without harm, and everything else.
"""

import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tests.fuzz.target import LIBRARY, check_shown

from . import archives, markup, names, pickles, pictures, texts
from .case import CANARY, Case

SECONDS = 20  # for one file, on a busy machine
ROOM = 1_500_000_000  # bytes of addresses beyond those that imports have taken


def every() -> Iterator[Case]:
    for module in (pickles, archives, texts, names, markup, pictures):
        yield from module.cases()


def outcome(case: Case, folder: Path) -> str:
    """Return "refused" or "harmless", or what happened instead."""
    path = case.make(folder)
    signal.alarm(SECONDS)
    try:
        case.read(path)
    except case.refused as error:
        return _fault(error) or "refused"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "".join(traceback.format_exception(error)[-3:])
    finally:
        signal.alarm(0)
    return "it was read" if case.refused else "harmless"


def _fault(error: Exception) -> str:
    """Say what is wrong with a refusal, "" if nothing is."""
    last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    try:
        check_shown(str(error))
    except AssertionError as found:
        return str(found)
    return "" if last.is_relative_to(LIBRARY) else f"raised in {last}: {error!r}"


def main() -> int:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _too_long)
    counts: dict[str, Counter[str]] = {}
    problems = []
    slowest = (0.0, "")
    seen = set()
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        _limit_memory()
        for number, case in enumerate(every()):
            folder = Path(place) / f"{number}"
            folder.mkdir()
            start = time.monotonic()
            found = outcome(case, folder)
            slowest = max(slowest, (time.monotonic() - start, case.name))
            shutil.rmtree(folder)
            if Path(CANARY).exists():
                found = "its code was run"
                os.unlink(CANARY)
            name = f"{case.kind}: {case.name}"
            if name in seen:
                found = "there are two cases of this name"
            seen.add(name)
            known = found in ("refused", "harmless")
            counts.setdefault(case.kind, Counter())[found if known else "failed"] += 1
            if not known:
                problems.append(f"{name}\n{found}")
    print(f"{'kind':<12}{'files':>7}{'refused':>9}{'harmless':>10}{'failed':>8}")
    for kind, found in {**counts, "all": sum(counts.values(), Counter())}.items():
        print(
            f"{kind:<12}{found.total():>7}{found['refused']:>9}{found['harmless']:>10}"
            f"{found['failed']:>8}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"slowest: {slowest[0]:.1f} s, {slowest[1]}; peak of memory {peak:.1f} GB")
    print("\n".join(problems[:20]))
    return len(problems)


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"it took more than {SECONDS} seconds")


def _limit_memory() -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))


if __name__ == "__main__":
    sys.exit(min(main(), 1))
