#!/usr/bin/env python
"""Measure this project beside its peers, on the same work, in turns.

    python scripts/benchmark.py decompose [--repetitions 5] [--threads 2] [--json FILE]

Suites: decompose (the weights' minor components), adapter-io (files of adapters), checkpoint
(those of a training), evaluation (average precision; five repetitions take some five minutes),
layer (one adapted layer's training step; ten minutes), train (a backbone's; an hour), inference (a
merged backbone), codino (a detector's step, of projects/codino; five minutes), index (annotation
files), loader (images through the training augmentation).

Ratios mean something on a busy machine as well; times do not.  Needs the extra `dev`.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

# Run as a script, this folder is on the path and its parent is not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from scripts.benchmarks.adapter_io import adapter_io
from scripts.benchmarks.checkpoint import checkpoint
from scripts.benchmarks.codino import codino
from scripts.benchmarks.decompose import decompose
from scripts.benchmarks.evaluation import evaluation
from scripts.benchmarks.index import index
from scripts.benchmarks.inference import inference
from scripts.benchmarks.layer import layer
from scripts.benchmarks.loader import loader
from scripts.benchmarks.results import Result
from scripts.benchmarks.train import train

SUITES: dict[str, Callable[[int], Result]] = {
    "decompose": decompose,
    "adapter-io": adapter_io,
    "checkpoint": checkpoint,
    "evaluation": evaluation,
    "layer": layer,
    "train": train,
    "codino": codino,
    "index": index,
    "loader": loader,
    "inference": inference,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--repetitions", type=int, default=5, help="of every alternative")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args()
    if args.repetitions < 1 or args.threads < 1:
        parser.error("repetitions and threads are counted from 1")
    torch.set_num_threads(args.threads)
    result = SUITES[args.suite](args.repetitions)
    print(result.to_text())
    if args.json:
        args.json.write_text(result.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
