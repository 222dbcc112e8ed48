#!/usr/bin/env python
"""Read damaged, odd and malicious files, and count what the readers make of them.

    python scripts/fuzz.py [TARGET ...] [--executions 100000] [--output output/fuzz]

A reader has to return a value or to raise its own exception with a message that names the file.
The first input of every kind that makes it do anything else is kept, with the traceback, and the
exit code is 1. The same inputs come every time; --start goes on with others.  Needs the extra
`dev`.
"""

import argparse
import logging
import sys
import tempfile
import warnings
from pathlib import Path

# Run as a script, this folder is on the path and its parent is not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

from tqdm import tqdm  # noqa: E402  after the filter

from tests.fuzz.tally import fuzz  # noqa: E402
from tests.fuzz.targets import TARGETS  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--executions", type=int, default=100_000, help="of every target")
    parser.add_argument("--start", type=int, default=0, help="number of the first input")
    parser.add_argument("--output", type=Path, default=Path("output/fuzz"), help="failing inputs")
    args = parser.parse_args()
    if unknown := [name for name in args.targets if name not in TARGETS]:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    logging.getLogger("sora_det").propagate = False
    print(f"{'target':<14}{'executions':>11}{'read':>9}{'refused':>9}{'failed':>8}")
    failed = 0
    for name in args.targets or TARGETS:
        failed += one(name, args)
    sys.exit(1 if failed else 0)


def one(name: str, args: argparse.Namespace) -> int:
    """Execute one target, print its tally and return the number of failures."""
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        tqdm(total=args.executions, desc=name, disable=None, leave=False) as bar,
    ):
        found = fuzz(
            TARGETS[name],
            range(args.start, args.start + args.executions),
            folder=Path(folder),
            kept=args.output / name,
            progress=bar.update,
        )
    count = sum(found.failed.values())
    print(
        f"{name:<14}{found.executions:>11}{found.read:>9}{found.refused:>9}{count:>8}", flush=True
    )
    for kind, times in found.failed.items():
        print(f"    {times} times {kind}: {args.output / name}", flush=True)
    return count


if __name__ == "__main__":
    main()
