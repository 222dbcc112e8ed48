#!/usr/bin/env python
"""Put the results of several runs side by side; seeds of one method become mean and deviation.

    python scripts/compare_results.py output/sora_seed0 output/sora_seed1 output/full_seed0
        [--metric ap50] [--format text|json|csv|markdown|latex] [--output FILE] [--force]
    python scripts/compare_results.py SoRA=output/a SoRA=output/b "full=output/c"

A run is its output folder or the results.json in it.  Runs without a NAME= are grouped by method,
config and weights.  Runs under different protocols are refused unless forced.
"""

import argparse
import sys
from pathlib import Path
from typing import get_args

from sora_det.evaluation.compare import Format, by_method, compare, read_results
from sora_det.evaluation.scores import METRICS
from sora_det.evaluation.table import DomainTable
from sora_det.untrusted.text import shown


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN")
    parser.add_argument("--metric", choices=METRICS, default="ap50")
    parser.add_argument("--format", choices=get_args(Format), default="text")
    parser.add_argument("--output", type=Path, help="file to write instead of the terminal")
    parser.add_argument("--force", action="store_true", help="although protocols differ")
    args = parser.parse_args()
    try:
        found = compare(methods(args.runs), metric=args.metric, force=args.force)
        text = found.render(args.format)
        if args.output:
            args.output.write_text(text, encoding="utf-8")
        else:
            print(text, end="")
        if args.format == "csv":  # has no place for them
            for note in found.notes():
                print(shown(note), file=sys.stderr)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def methods(runs: list[str]) -> dict[str, list[DomainTable]]:
    """Read the runs, by the names that the user gave or else by method."""
    once = list(dict.fromkeys(runs))
    if len(once) < len(runs):
        raise ValueError("a run is given twice")
    named: dict[str, list[DomainTable]] = {}
    unnamed = []
    for run in once:
        name, sign, path = run.partition("=")
        if sign and not Path(run).exists():
            named.setdefault(name, []).append(read_results(path))
        else:
            unnamed.append(read_results(run))
    return named | by_method(unnamed)


if __name__ == "__main__":
    main()
