"""Draw the toy benchmark: python scripts/make_toy.py datasets/toy_weather."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from tqdm import tqdm

from sora_det.data.toy import image_count, write_toy

logger = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder to make")
    parser.add_argument("--seed", type=int, default=0, help="which scenes")
    parser.add_argument("--train", type=int, default=400, help="training images, clear day")
    parser.add_argument("--test", type=int, default=100, help="test images per domain")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels")
    parser.add_argument("--workers", type=int, help="processes; one per processor if not given")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = {key: value for key, value in vars(args).items() if key != "root"}
    total = image_count(train=args.train, test=args.test)
    try:
        with tqdm(total=total, unit="image", disable=None) as bar:
            file = write_toy(args.root, **settings, progress=bar.update)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    logger.info("toy benchmark: %s", file)


if __name__ == "__main__":
    main()
