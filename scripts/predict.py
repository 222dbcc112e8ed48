#!/usr/bin/env python
"""Run a trained detector on images, folders and videos: pictures with boxes, and COCO's JSON.

    python scripts/predict.py --config-file configs/toy_sora_frcnn.py \
        --checkpoint output/quickstart/model_final.pth street.jpg
    python scripts/predict.py --config-file CONFIG.py photos/ drive.mp4 -- train.output_dir=RUN

Folders are searched with all their subfolders. Behind -- come overrides of the config, those that
the training had. The output folder then holds pictures/ and predictions.json, which
scripts/evaluate.py scores.
"""

import argparse
import sys
import warnings
from pathlib import Path

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

from detectron2.utils.logger import setup_logger  # noqa: E402  after the filter

from sora_det.data.media import find_media  # noqa: E402
from sora_det.engine.config import load_config  # noqa: E402
from sora_det.engine.predict import JSON, Document, load_detector, predict  # noqa: E402
from sora_det.report.drawing import Album  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="image, folder or video")
    parser.add_argument("--config-file", type=Path, required=True, help="of a training run")
    parser.add_argument("--checkpoint", default="", help="default: the last in train.output_dir")
    parser.add_argument("--output", type=Path, default=Path("output/predictions"), help="folder")
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=0.5,
        help="lowest score kept; 0 for files to be scored (the model has a limit of its own)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="write the JSON alone")
    own, overrides = split(sys.argv[1:])
    args = parser.parse_args(own)
    setup_logger(name="sora_det")
    try:
        failed = run(args, overrides)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit(f"error: {len(failed)} files could not be read: " + "; ".join(failed[:5]))


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part the arguments at --."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:place], arguments[place + 1 :]


def run(args: argparse.Namespace, overrides: list[str]) -> list[str]:
    media = find_media(args.inputs, outside=args.output)
    detector = load_detector(
        load_config(args.config_file, overrides),
        checkpoint=args.checkpoint,
        score_threshold=args.score_threshold,
    )
    document = Document(detector.classes, info={"config": args.config_file.stem})
    album = None if args.no_pictures else Album(args.output / "pictures", detector.classes)
    failed = predict(detector, media, document, viewer=album)
    document.write(args.output / JSON)
    count = sum(len(found) for found in document.found)
    print(f"{count} detections in {len(document.images)} images: {args.output}")
    return failed


if __name__ == "__main__":
    main()
