#!/usr/bin/env python
"""Turn the checkpoint that SoRA's authors published into an adapter file, and into a detector.

    python scripts/convert_soma_checkpoint.py soma_dinov2-L_dgod_best.pth \
        --dinov2 dinov2_vitl14_pretrain.pth --output soma_dinov2_l.safetensors

The adapter is W + s B A on DINOv2's own weights W, as the published code trained it. Neck and head
of the published file belong to Co-DINO: --detector FILE writes that detector's checkpoint as well,
see projects/codino.
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

from torch import Tensor

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

from sora_det.adapt import save_adapter, trainable  # noqa: E402  after the filter
from sora_det.adapt.released import attach_published, read_published  # noqa: E402
from sora_det.backbones import vit  # noqa: E402
from sora_det.backbones.weights import read_state  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "projects" / "codino" / "configs" / "dinov2_l_published_codino_weather.py"

logger = logging.getLogger("sora_det.scripts.convert_soma_checkpoint")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("published", type=Path, help="the authors' adapter-and-head file")
    parser.add_argument("--dinov2", required=True, help="DINOv2's weights, a local file")
    parser.add_argument("--output", type=Path, required=True, help="adapter file to write")
    parser.add_argument("--model", default="vit_large_patch14_dinov2", help="name in timm")
    parser.add_argument("--scale", type=float, default=1.0, help="alpha / rank; 1 as published")
    parser.add_argument("--detector", type=Path, help="checkpoint of the whole detector to write")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of the detector")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        found = read_published(read_state(args.published), scale=args.scale)
        net = attach_published(vit(args.model, weights=args.dinov2, patch_size=None), found)
        save_adapter(net, args.output)
        logger.info("%s: %s", args.output, trainable(net))
        if args.detector:
            write_detector(args, found.head)
        else:
            logger.info("left out: %d tensors of neck and head", len(found.head))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def write_detector(args: argparse.Namespace, head: dict[str, Tensor]) -> None:
    sys.path.append(str(ROOT))  # projects are not installed
    from projects.codino import published
    from sora_det.engine.config import load_config

    cfg = load_config(args.config)
    files = {"adapter": str(args.output), "dinov2": str(args.dinov2)}
    model = published.write_detector(cfg, head, args.detector, **files)
    logger.info("%s: %s", args.detector, trainable(model))


if __name__ == "__main__":
    main()
