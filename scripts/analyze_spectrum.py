#!/usr/bin/env python
"""Analyse the singular values of a ViT's weights, and what its features and scores owe to them.

    python scripts/analyze_spectrum.py --model vit_tiny_patch16_224 --weights <file>
        [--adapter adapter.safetensors]
    python scripts/analyze_spectrum.py --config-file configs/toy_sora_frcnn.py
        [--checkpoint model_final.pth] [--max-images 20] [--score] [key=value ...]

Writes spectrum.json and plots as SVG and PNG. With an adapter or a checkpoint, also how far each
matrix has moved; with --max-images, how features change when the strongest or the weakest
components of the adapted layers are removed; with --score, what that does to AP50 on every
domain's whole test split.
"""

import argparse
import sys
import warnings
from dataclasses import replace
from pathlib import Path

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

from detectron2.utils.logger import setup_logger  # noqa: E402  after the filter

from sora_det.adapt import read_adapter  # noqa: E402
from sora_det.backbones import vit  # noqa: E402
from sora_det.engine.analysis import (  # noqa: E402
    SpectrumReport,
    analyze_adapter,
    analyze_network,
    analyze_spectrum,
)
from sora_det.engine.config import load_config  # noqa: E402
from sora_det.evaluation import RunInfo  # noqa: E402
from sora_det.report.analysis import write_report  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config-file", type=Path, help="of a training run")
    what.add_argument("--model", help="timm's name of a plain ViT, without a detector")
    parser.add_argument("--weights", default="", help="of --model, a local file")
    parser.add_argument("--adapter", type=Path, help="trained for --model with these weights")
    parser.add_argument("--checkpoint", default="", help="default: the last in train.output_dir")
    parser.add_argument("--output", type=Path, default=Path("output/spectrum"), help="folder")
    parser.add_argument("--max-images", type=int, default=0, help="per domain, for features")
    parser.add_argument("--counts", type=int, nargs="+", default=(), help="components to remove")
    parser.add_argument("--score", action="store_true", help="AP50 without the components")
    parser.add_argument("opts", nargs="*", help="overrides of the config, key=value")
    args = parser.parse_args()
    of_a_run = args.checkpoint or args.max_images or args.counts or args.score or args.opts
    if args.model and of_a_run:
        parser.error("--model has no detector and no images: those options are for --config-file")
    if args.config_file and (args.weights or args.adapter):
        parser.error("--weights and --adapter are for --model; pass backbone.net.weights=<file>")
    setup_logger(name="sora_det")
    try:
        report = of_model(args) if args.model else of_run(args)
        write_report(report.to_json(), args.output, "spectrum")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def of_model(args: argparse.Namespace) -> SpectrumReport:
    net = vit(args.model, weights=args.weights, patch_size=None)
    run = RunInfo(weights=net.weights_source)
    if args.adapter is None:
        return analyze_network(net, network=args.model, run=run)
    adapter = read_adapter(args.adapter)
    run = replace(run, method=adapter.adaptation.method, checkpoint=args.adapter.name)
    return analyze_adapter(net, adapter, network=args.model, run=run)


def of_run(args: argparse.Namespace) -> SpectrumReport:
    return analyze_spectrum(
        load_config(args.config_file, args.opts),
        name=args.config_file.stem,
        checkpoint=args.checkpoint,
        max_images=args.max_images,
        counts=args.counts,
        score=args.score,
    )


if __name__ == "__main__":
    main()
