#!/usr/bin/env python
"""Look at every image and annotation of a benchmark and list all that is wrong with them.

    python scripts/check_benchmark.py configs/benchmarks/carla_weather.yaml [--root FOLDER]
        [--json report.json] [--allow unknown-class missing-image]

Exit code 0: no problem but of kinds that are allowed; 1: problems; 2: could not run. docs/data.md
says what each kind means and how to mend it.
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

from sora_det.data import load_benchmark  # noqa: E402  after the filter
from sora_det.data.audit import KINDS, audit  # noqa: E402
from sora_det.data.audit.duplicates import DISTANCE  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", type=Path, help="its YAML file")
    parser.add_argument("--root", help="of the benchmark's data, instead of the file's own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every problem, as JSON")
    parser.add_argument("--first", type=int, default=3, metavar="N", help="shown of each kind")
    parser.add_argument(
        "--allow", nargs="+", choices=KINDS, default=[], metavar="KIND", help="no reason to fail"
    )
    parser.add_argument(
        "--distance",
        type=int,
        default=DISTANCE,
        metavar="BITS",
        help="of 256 in which near-duplicates differ at most (default: %(default)s)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="threads; one per processor")
    parser.add_argument("--no-cache", action="store_true", help="neither use nor keep a cache")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        found = audit(
            load_benchmark(args.benchmark, root=args.root),
            distance=args.distance,
            workers=args.workers,
            cache=not args.no_cache,
        )
        if args.json:
            args.json.write_text(found.to_json(), encoding="utf-8")
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
    print(found.to_text(first=args.first, allowed=args.allow), end="")
    return 1 if found.problems(args.allow) else 0


if __name__ == "__main__":
    sys.exit(main())
