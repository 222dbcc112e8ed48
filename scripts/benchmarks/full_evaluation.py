"""Score as many detections as Diverse-Weather has, in a process that holds nothing else.

    python -m scripts.benchmarks.full_evaluation [--share 1.0] [--replicates 1000] [--repetitions 3]

Prints one line of JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from scripts.benchmarks.synthetic import CLASSES, DIVERSE_WEATHER, draw, sample
from sora_det.evaluation import APResult, Detections, GroundTruth, match, score_matches
from sora_det.evaluation.bootstrap import bootstrap
from sora_det.evaluation.coco import coco_scores

LEVELS = [percent / 100 for percent in range(50, 100, 5)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the images")
    parser.add_argument("--replicates", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--repetitions", type=int, default=3, help="all but the bootstrap")
    args = parser.parse_args()
    domains = [sample(d, max(1, round(args.share * d.images))) for d in DIVERSE_WEATHER]
    data = [draw(domain, seed=seed) for seed, domain in enumerate(domains)]
    before = peak_memory()
    voc = [seconds(lambda: [score(*pair) for pair in data]) for _ in range(args.repetitions)]
    after_voc = peak_memory()
    coco = [
        seconds(
            lambda: [
                coco_scores(*pair, num_images=domain.images, num_classes=len(CLASSES))
                for domain, pair in zip(domains, data, strict=True)
            ]
        )
        for _ in range(args.repetitions)
    ]
    largest = max(domains, key=lambda domain: domain.images)
    matches = match(*data[domains.index(largest)], num_classes=len(CLASSES))
    drawn = seconds(
        lambda: bootstrap(matches, num_images=largest.images, replicates=args.replicates)
    )
    numbers = {
        "images": sum(domain.images for domain in domains),
        "detections": sum(len(found) for found, _ in data),
        "voc": statistics.median(voc),
        "coco": statistics.median(coco),
        "bootstrap": drawn,
        "bootstrap images": largest.images,
        "data": sum(
            column.nbytes for pair in data for rows in pair for column in vars(rows).values()
        ),
        "peak before": before,
        "peak voc": after_voc,
        "peak": peak_memory(),
    }
    print(json.dumps(numbers))


def score(found: Detections, truth: GroundTruth) -> list[APResult]:
    """Average precision at ten thresholds, from one matching."""
    matches = match(found, truth, num_classes=len(CLASSES))
    return [score_matches(matches, iou=level) for level in LEVELS]


def seconds(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def peak_memory() -> int | None:
    """Largest resident size so far in bytes, where Linux tells it.

    Not `resource.getrusage`: its peak includes that of the process which started this one.
    """
    try:
        text = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    (line,) = (line for line in text.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
