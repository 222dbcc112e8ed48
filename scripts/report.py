#!/usr/bin/env python
"""Write one HTML file about a run, or about several side by side; it opens without a network.

    python scripts/report.py output/quickstart
    python scripts/report.py output/sora_seed0 output/sora_seed1 output/full_seed0
        [--output report.html] [--title "SoRA against full fine-tuning"] [--images FOLDER] [--force]

RUN is a run's output folder: results.json is needed; detections (curves and pictures) and
metrics.json (training curves) are shown if they are there. Runs that differ in their seed alone
become a mean and a standard deviation.
"""

import argparse
import logging
import sys
from pathlib import Path

from sora_det.report.page import write_page


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--output", type=Path, help="default: report.html in the first RUN")
    parser.add_argument("--title", default="", help="default: method and benchmark")
    parser.add_argument("--images", type=Path, help="the benchmark's folder, if it has moved")
    parser.add_argument("--force", action="store_true", help="although protocols differ")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        write_page(
            args.runs,
            args.output or args.runs[0] / "report.html",
            title=args.title,
            images=args.images,
            force=args.force,
        )
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
