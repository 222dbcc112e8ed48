#!/usr/bin/env python
"""Score a trained detector on corrupted images: the robust-detection benchmark.

    python scripts/robustness.py --config-file configs/toy_sora_frcnn.py
        [--checkpoint model_final.pth] [--domains all] [--corruptions fog,snow] [--severities 1,3,5]
        [--num-workers 8] [--num-gpus 2] [key=value ...]

By default the last checkpoint in train.output_dir is scored on the source's test split: on clean
images and under the benchmark's 15 corruptions at 5 severities. Writes robustness/robustness.json
and .md; what has been done before is not done again. docs/robustness.md has more.
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

from detectron2.utils import comm  # noqa: E402  after the filter
from detectron2.utils.logger import setup_logger  # noqa: E402

from sora_det.data.corruptions import COMMON, EXTRA, NAMES  # noqa: E402
from sora_det.engine.config import load_config  # noqa: E402
from sora_det.engine.launch import launch  # noqa: E402
from sora_det.engine.robustness import measure_robustness  # noqa: E402

SETS = {"common": COMMON, "extra": EXTRA, "all": NAMES}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="of the training run")
    add("--checkpoint", default="", metavar="FILE", help="default: the last in train.output_dir")
    add("--output", metavar="FOLDER", help="of robustness/; default: train.output_dir")
    add("--domains", default="source", help="source, all, or names with commas between")
    add("--corruptions", default="common", help="common (15), extra (4), all, or names")
    add("--severities", default="1,2,3,4,5", help="with commas between")
    add("--seed", type=int, default=0, help="of the corruptions")
    add("--frost-textures", metavar="FOLDER", help="photographs of frost instead of drawn ones")
    add("--redo", action="store_true", help="replace cells of another model, data or setting")
    add("--num-workers", type=int, help="processes that read and corrupt, for each detector")
    add("--num-gpus", type=int, default=1, help="processes; on the CPU if there is no GPU")
    add("--num-machines", type=int, default=1)
    add("--machine-rank", type=int, default=0)
    add("--dist-url", default="auto", help="where several processes meet; see Detectron2")
    add("opts", nargs="*", help="overrides of the config, key=value")
    return parser


def main(args: argparse.Namespace) -> None:
    try:
        run(args)
    except (OSError, FloatingPointError, ValueError) as error:
        sys.exit(f"error: {error}")


def run(args: argparse.Namespace) -> None:
    cfg = load_config(args.config_file, args.opts)
    if args.checkpoint:
        cfg.train.init_checkpoint = args.checkpoint
    if args.num_workers is not None:
        cfg.dataloader.test.num_workers = args.num_workers
    output = args.output or cfg.train.output_dir
    for name in ("sora_det", "fvcore"):
        setup_logger(str(Path(output) / "robustness"), distributed_rank=comm.get_rank(), name=name)
    logging.getLogger("sora_det.data").setLevel(logging.WARNING)  # it would count in every cell
    measure_robustness(
        cfg,
        name=Path(args.config_file).stem,
        domains=args.domains if args.domains in ("source", "all") else listed(args.domains),
        corruptions=SETS.get(args.corruptions) or listed(args.corruptions),
        severities=[number(text) for text in listed(args.severities)],
        seed=args.seed,
        frost_textures=args.frost_textures,
        output=output,
        redo=args.redo,
    )


def listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"severities are whole numbers, 1,3,5 for example, got {text!r}") from None


if __name__ == "__main__":
    launch(main, parser().parse_args())
