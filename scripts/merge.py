#!/usr/bin/env python
"""Write a trained detector without its adapters, as an ordinary one that costs no more.

    python scripts/merge.py --config-file configs/toy_sora_frcnn.py --output output/plain
    python scripts/merge.py --config-file CONFIG.py --output output/plain -- train.output_dir=RUN

Behind -- come overrides of the config, those that the training had. The output folder then holds
model_final.pth and config.yaml, which build the detector without pretrained weights; both work like
those of a training run:

    python scripts/predict.py --config-file output/plain/config.yaml street.jpg
    python scripts/train_net.py --config-file output/plain/config.yaml --eval-only
"""

import argparse
import sys
import warnings
from pathlib import Path

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

from detectron2.utils.logger import setup_logger  # noqa: E402  after the filter

from sora_det.engine.config import load_config  # noqa: E402
from sora_det.engine.plain import write_plain  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="of a training run")
    parser.add_argument("--checkpoint", default="", help="default: the last in train.output_dir")
    parser.add_argument("--output", type=Path, required=True, help="folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="behind --")
    args = parser.parse_args()
    setup_logger(name="sora_det")
    try:
        cfg = load_config(args.config_file, args.overrides)
        print(write_plain(cfg, args.output, checkpoint=args.checkpoint))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
