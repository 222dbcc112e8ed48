#!/usr/bin/env python
"""Analyse how much of its pretrained features a trained backbone keeps, by block and domain.

    python scripts/analyze_forgetting.py --config-file configs/toy_sora_frcnn.py
        [--checkpoint model_final.pth] [--max-images 50] [key=value ...]

Compares the trained backbone with the pretrained one on the same images of every domain's test
split, by linear CKA (1: the same features, up to rotation and scale). Writes forgetting.json and a
plot as SVG and PNG. The config and its overrides must be those of the training.
"""

import argparse
import sys
import warnings
from pathlib import Path

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

from detectron2.utils.logger import setup_logger  # noqa: E402  after the filter

from sora_det.engine.analysis import analyze_forgetting  # noqa: E402
from sora_det.engine.config import load_config  # noqa: E402
from sora_det.report.analysis import write_report  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="of a training run")
    parser.add_argument("--checkpoint", default="", help="default: the last in train.output_dir")
    parser.add_argument("--output", type=Path, default=Path("output/forgetting"), help="folder")
    parser.add_argument("--max-images", type=int, default=50, help="per domain")
    parser.add_argument("opts", nargs="*", help="overrides of the config, key=value")
    args = parser.parse_args()
    setup_logger(name="sora_det")
    try:
        report = analyze_forgetting(
            load_config(args.config_file, args.opts),
            name=args.config_file.stem,
            checkpoint=args.checkpoint,
            max_images=args.max_images,
        )
        write_report(report.to_json(), args.output, "forgetting")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
