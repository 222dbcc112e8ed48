#!/usr/bin/env python
"""Score files of detections, of whatever detector, on every domain of a benchmark.

    python scripts/evaluate.py BENCHMARK.yaml predictions.json [--output FOLDER]
    python scripts/evaluate.py BENCHMARK.yaml clear=clear.json fog=fog.json [--output FOLDER]

A file is a list of {image_id, category_id, bbox [x, y, width, height], score}, as COCO's, or an
object of images, categories and annotations, as scripts/predict.py writes it. docs/evaluation.md
says how images and classes are found and what is refused. The folder then holds results.json,
results.md and the detections, for scripts/compare_results.py.
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

from sora_det.data import load_benchmark  # noqa: E402  after the filter
from sora_det.evaluation.external import evaluate_files  # noqa: E402
from sora_det.evaluation.scoring import Extras  # noqa: E402
from sora_det.untrusted.text import shown  # noqa: E402

FORMATS = ("text", "json", "csv", "markdown", "latex")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", type=Path, help="its YAML file")
    parser.add_argument("predictions", nargs="+", help="FILE for all domains, or DOMAIN=FILE")
    parser.add_argument("--root", help="of the benchmark's data, instead of the file's own")
    parser.add_argument("--output", type=Path, help="folder for results and detections")
    parser.add_argument("--name", default="", help="of the detector, for the results")
    parser.add_argument("--format", choices=FORMATS, default="text", help="of what is printed")
    parser.add_argument(
        "--first-category-id",
        type=int,
        choices=(0, 1),
        help="of the benchmark's first class, in files that do not name their categories",
    )
    parser.add_argument(
        "--ignore-unknown-images",
        action="store_true",
        help="count detections of images that the benchmark lacks, instead of refusing them",
    )
    parser.add_argument(
        "--min-side",
        type=float,
        default=0.0,
        metavar="PIXELS",
        help="leave out ground truth with a smaller side",
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="N",
        help="replicates behind the intervals, 0 for no intervals",
    )
    parser.add_argument("--lrp", action="store_true", help="localisation-recall-precision error")
    parser.add_argument("--calibration", action="store_true", help="calibration error of scores")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # to stderr: stdout is the table
    try:
        table = evaluate_files(
            load_benchmark(args.benchmark, root=args.root),
            args.predictions,
            name=args.name,
            first_category=args.first_category_id,
            ignore_unknown_images=args.ignore_unknown_images,
            min_side=args.min_side,
            extras=Extras(args.bootstrap, lrp=args.lrp, calibration=args.calibration),
            output_dir=args.output,
        )
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(getattr(table, f"to_{args.format}")(), end="")
    if args.format == "csv":  # has no place for them
        for note in table.notes():
            print(shown(note), file=sys.stderr)


if __name__ == "__main__":
    main()
