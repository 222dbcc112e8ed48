#!/usr/bin/env python
"""Draw the toy benchmark, train SoRA on its clear days, score it under every weather.

Called by scripts/quickstart.sh, which sets the environment up first.
"""

import argparse
import logging
import shutil
import sys
import time
import warnings
from pathlib import Path

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

from detectron2.utils.env import seed_all_rng  # noqa: E402  after the filter
from tqdm import tqdm  # noqa: E402

from sora_det.data.toy import image_count, write_toy  # noqa: E402
from sora_det.engine.config import load_config  # noqa: E402
from sora_det.engine.train import fit, score  # noqa: E402
from sora_det.report.page import write_page  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "toy_sora_frcnn.py"
IMAGES = {"train": 400, "test": 100}
LOG = "quickstart.log"
SHOWN = ("sora_det", "detectron2.utils.events")  # what the terminal sees of the log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, default=ROOT / "output" / "quickstart")
    parser.add_argument("opts", nargs="*", help="overrides of the config, key=value")
    args = parser.parse_args()
    start = time.perf_counter()
    cfg = load_config(CONFIG, args.opts)
    clear(args.output_dir)
    log_to(args.output_dir / LOG)

    folder = ROOT / "datasets" / "toy_weather"
    print(f"Drawing {image_count(**IMAGES)} street scenes in {folder} ...")
    with tqdm(total=image_count(**IMAGES), unit="image", disable=None) as bar:
        benchmark = write_toy(folder, **IMAGES, progress=bar.update)
    cfg.benchmark.file, cfg.train.output_dir = str(benchmark), str(args.output_dir)

    seed_all_rng(cfg.train.seed)
    print("Scoring the detector before training ...")
    before = score(cfg, name=CONFIG.stem, domains="source").scores[0]
    seed_all_rng(cfg.train.seed)
    print(f"Training SoRA for {cfg.train.max_iter} iterations on {before.domain} alone ...")
    fit(cfg, name=CONFIG.stem)  # its log ends with the table

    page = write_page([args.output_dir], args.output_dir / "report.html")
    minutes = (time.perf_counter() - start) / 60
    print(f"Before training, AP50 on {before.domain} was {before.ap50:.1f}.")
    print(f"Results, metrics and checkpoint, after {minutes:.1f} minutes: {args.output_dir}")
    print(f"Open {page} in a browser.")


def clear(folder: Path) -> None:
    """Make an empty folder, in place of an earlier quickstart's but of nothing else."""
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / LOG).is_file():
            raise FileExistsError(
                f"{folder} holds something else than an earlier quickstart, which would be "
                "replaced; name another folder with --output-dir"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def log_to(file: Path) -> None:
    """Send the whole log to `file` and its main lines to the terminal."""
    logging.basicConfig(
        filename=file, level=logging.INFO, format="[%(asctime)s] %(name)s: %(message)s"
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("  %(message)s"))
    for name in SHOWN:
        logging.getLogger(name).addHandler(handler)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
