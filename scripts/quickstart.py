#!/usr/bin/env python
"""Draw the toy benchmark, train SoRA on its clear days, score it under every weather.

With --compare, full fine-tuning and a frozen backbone are trained as well.

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
from sora_det.engine.train import fit  # noqa: E402
from sora_det.evaluation.compare import by_method, compare  # noqa: E402
from sora_det.report.page import write_page  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
CONFIG = "toy_sora_frcnn"
COMPARED = {"full": "toy_full_frcnn", "frozen": "toy_frozen_frcnn"}  # by folder
IMAGES = {"train": 400, "test": 100}
LOG = "quickstart.log"
SHOWN = ("sora_det", "detectron2.utils.events")  # what the terminal sees of the log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, default=ROOT / "output" / "quickstart")
    parser.add_argument(
        "--compare", action="store_true", help="full fine-tuning and a frozen backbone as well"
    )
    parser.add_argument("opts", nargs="*", help="overrides of the config, key=value")
    args = parser.parse_args()
    start = time.perf_counter()
    configs = {args.output_dir: CONFIG}
    if args.compare:
        configs |= {args.output_dir / name: config for name, config in COMPARED.items()}
    cfgs = {
        folder: load_config(CONFIGS / f"{config}.py", args.opts)
        for folder, config in configs.items()
    }
    clear(args.output_dir)
    log_to(args.output_dir / LOG)

    folder = ROOT / "datasets" / "toy_weather"
    print(f"Drawing {image_count(**IMAGES)} street scenes in {folder} ...")
    with tqdm(total=image_count(**IMAGES), unit="image", disable=None) as bar:
        benchmark = write_toy(folder, **IMAGES, progress=bar.update)

    tables = []
    for output, cfg in cfgs.items():
        cfg.benchmark.file, cfg.train.output_dir = str(benchmark), str(output)
        seed_all_rng(cfg.train.seed)
        method = cfg.adaptation._target_.__name__
        print(f"Training {method} for {cfg.train.max_iter} iterations on clear days alone ...")
        tables.append(fit(cfg, name=configs[output]))  # its log ends with the table

    page = write_page(list(cfgs), args.output_dir / "report.html")
    if args.compare:
        print(compare(by_method(tables)).render("text"))
    minutes = (time.perf_counter() - start) / 60
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
