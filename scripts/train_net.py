#!/usr/bin/env python
"""Train a detector on a benchmark's source domain and score it on every domain.

    python scripts/train_net.py --config-file configs/toy_sora_frcnn.py [--num-gpus 4] [--resume]
        [--eval-only] [key=value ...]

The arguments are those of Detectron2's own training scripts; `torchrun` works as well, and
scripts/launch_slurm.py submits it. docs/distributed.md has the rest.
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

from detectron2.engine import default_argument_parser, default_setup  # noqa: E402  after the filter
from detectron2.utils import comm  # noqa: E402
from detectron2.utils.logger import setup_logger  # noqa: E402

from sora_det.engine.config import load_config  # noqa: E402
from sora_det.engine.launch import check_restarts, launch  # noqa: E402
from sora_det.engine.stop import DIVERGED  # noqa: E402
from sora_det.engine.train import fit, score  # noqa: E402


def main(args: argparse.Namespace) -> None:
    logging.raiseExceptions = False  # no traceback for every line where a disk is full
    try:
        run(args)
    except FloatingPointError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(DIVERGED)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def run(args: argparse.Namespace) -> None:
    cfg = load_config(args.config_file, args.opts)
    default_setup(cfg, args)
    setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="sora_det")
    name = Path(args.config_file).stem
    if args.eval_only:
        score(cfg, name=name)
    else:
        check_restarts(resume=args.resume)
        fit(cfg, name=name, resume=args.resume)


if __name__ == "__main__":
    parser = default_argument_parser(epilog=__doc__)
    parser.set_defaults(dist_url="auto")  # Detectron2's own is the same for all runs of a user
    launch(main, parser.parse_args())
