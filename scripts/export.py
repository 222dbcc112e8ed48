#!/usr/bin/env python
"""Write the merged backbone of a trained detector for torch.export or ONNX, and check the files.

    python scripts/export.py --config-file configs/toy_sora_frcnn.py --size 192 192 \
        output/backbone.onnx output/backbone.pt2

A file takes RGB images of 0..255 as float32 (batch, 3, height, width), of this size alone, and
returns the maps of the pyramid. Behind -- come overrides of the config, those that the training
had. ONNX needs the extra `export`.
"""

import argparse
import sys
import warnings
from pathlib import Path

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

from detectron2.utils.logger import setup_logger  # noqa: E402  after the filter

from sora_det.engine.config import load_config  # noqa: E402
from sora_det.engine.export import export_backbone  # noqa: E402
from sora_det.engine.predict import load_detector  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".onnx or .pt2")
    parser.add_argument("--config-file", type=Path, required=True, help="of a training run")
    parser.add_argument("--checkpoint", default="", help="default: the last in train.output_dir")
    parser.add_argument(
        "--size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"), help="in pixels"
    )
    parser.add_argument("--batch", type=int, default=1, help="images at once")
    place = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:place])
    if min(args.batch, *args.size) < 1:
        parser.error("batch and size are counted from 1")
    setup_logger(name="sora_det")
    try:
        cfg = load_config(args.config_file, sys.argv[place + 1 :])
        model = load_detector(cfg, checkpoint=args.checkpoint).model
        export_backbone(model, args.files, (args.batch, *args.size))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
