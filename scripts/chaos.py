#!/usr/bin/env python
"""Kill a training run over and over, and compare it with one that was left alone.

    python scripts/chaos.py [--kills 30] [--workers 0 2] [--seed 0] [--folder FOLDER]

Every run is a small one on drawn images. A third of the kills (SIGKILL) come between the start and
the first steps, a third between steps, a third while a checkpoint is being written. The final
checkpoints, optimiser states, metrics and scores must be equal bit by bit. Needs the extra `dev`.
"""

import argparse
import random
import sys
import tempfile
import warnings
from pathlib import Path

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

# Run as a script, this folder is on the path and its parent is not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sora_det.data.toy import write_toy  # noqa: E402  after the filter
from tests.tools.kills import (  # noqa: E402
    Moment,
    command,
    count_tensors,
    differences,
    kill_at,
)
from tests.tools.process import Started  # noqa: E402

MOMENTS: tuple[Moment, ...] = ("start", "step", "write")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30, help="for each number of workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="that load data")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="for the runs, kept; default: a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos_") as temporary:
        folder = args.folder or Path(temporary)
        toy = write_toy(folder / "toy_weather", train=8, test=3, size=96, workers=1)
        failed = [w for w in args.workers if not survive(toy, folder, w, args.kills, args.seed)]
    sys.exit(f"error: runs with {failed} workers differ" if failed else 0)


def survive(toy: Path, folder: Path, workers: int, kills: int, seed: int) -> bool:
    """Kill one run `kills` times; print what came of it; say whether it is as it should be."""
    # Four steps a checkpoint, at most two checkpoints a kill: the run outlives its kills.
    length = f"train.max_iter={8 * kills + 8}"
    alone, killed = folder / f"alone {workers}", folder / f"killed {workers}"
    ended = Started(*command(toy, alone, workers, length), folder=folder / f"log {workers}")
    if (code := ended.wait(3600).code) != 0:
        sys.exit(f"error: the run that is left alone ended with {code}: {ended.last_words()}")
    moments = [MOMENTS[place % len(MOMENTS)] for place in range(kills)]
    random.Random(seed).shuffle(moments)
    arguments, logs = command(toy, killed, workers, length), folder / f"logs {workers}"
    unfinished = kill_at(moments, arguments, killed, logs, seed=seed)
    wrong = differences(killed, alone)
    counts = ", ".join(f"{moments.count(moment)} at {moment}" for moment in MOMENTS)
    print(
        f"{workers} workers: {kills} kills ({counts}), {unfinished} left an unfinished checkpoint; "
        f"{count_tensors(killed)} tensors compared, {len(wrong)} differences",
        *wrong[:10],
        sep="\n  ",
        flush=True,
    )
    return not wrong


if __name__ == "__main__":
    main()
