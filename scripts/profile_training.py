#!/usr/bin/env python
"""Say where the time of a training goes.

    python scripts/profile_training.py --config-file configs/toy_sora_frcnn.py --iterations 30

Behind -- come overrides of the config. One thread trains and loads the images as well, so that
nothing hides behind anything else, and the processor's time is counted; on a GPU it is the clock's,
and every part is waited for. Nothing is scored, and nothing but train.output_dir is written.
"""

import argparse
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

# Run as a script, this folder is on the path and its parent is not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402  after the filter
from detectron2.engine import HookBase  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from scripts.benchmarks.timing import step_clock  # noqa: E402
from sora_det.engine.config import load_config  # noqa: E402
from sora_det.engine.train import build, train_detector  # noqa: E402

WARM = 3  # iterations that do not count: memory is new, files are not cached


class Stopwatch(HookBase):
    """Add up what the parts of training steps take; to be the first of all hooks.

    Attributes:
        seconds: by part, of all counted iterations. "all" is the time from one iteration's
            beginning to the next one's.
        counted: number of these.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.counted = 0
        self._clock = step_clock()
        self._current: dict[str, float] = defaultdict(float)
        self._started: dict[str, float] = {}

    def before_train(self) -> None:
        trainer: Any = self.trainer
        for name, part in trainer.model.named_children():
            part.register_forward_pre_hook(self._begin(f"forward, {name}"))
            part.register_forward_hook(self._end(f"forward, {name}"))
        trainer.model.backbone.register_forward_hook(self._await_gradients)
        trainer.optimizer.register_step_pre_hook(self._begin("optimizer"))
        trainer.optimizer.register_step_post_hook(self._end("optimizer"))
        batches = trainer.batches
        trainer.batches = lambda start: self._timed(batches(start))

    def before_step(self) -> None:
        """End the hooks of the iteration before, and with them that iteration."""
        done = self.trainer.iter - self.trainer.start_iter
        if done:
            self._end("hooks")()
            self._end("all")()
        if done > WARM:
            self.counted += 1
            for part, seconds in self._current.items():
                self.seconds[part] += seconds
        self._current.clear()
        self._begin("all")()

    def after_step(self) -> None:
        self._begin("hooks")()

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return self._clock()

    def _begin(self, part: str) -> Callable[..., None]:
        def begin(*_: object) -> None:
            self._started[part] = self._now()

        return begin

    def _end(self, part: str) -> Callable[..., None]:
        def end(*_: object) -> None:
            self._current[part] += self._now() - self._started.pop(part)

        return end

    def _timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        iterator = iter(batches)
        while True:
            self._begin("data")()
            batch = next(iterator)
            self._end("data")()
            yield batch

    def _await_gradients(self, _: nn.Module, __: object, maps: dict[str, Tensor]) -> None:
        """Note when the last map has its gradient: the heads' backward pass is then done."""
        for value in maps.values():
            if value.requires_grad:
                value.register_hook(self._begin("backward, backbone"))


def profile(file: Path, overrides: list[str], iterations: int) -> Stopwatch:
    """Train a config for some iterations in one thread."""
    torch.set_num_threads(1)
    cfg = load_config(file, [*overrides, f"train.max_iter={WARM + 1 + iterations}"])
    cfg.train.eval_period = 0
    cfg.dataloader.train.num_workers = 0
    watch = Stopwatch()
    benchmark, model = build(cfg)
    plain = Tensor.backward

    def backward(loss: Tensor) -> None:
        watch._begin("backward")()
        plain(loss)
        watch._end("backward")()
        if "backward, backbone" in watch._started:
            watch._end("backward, backbone")()

    with mock.patch.object(Tensor, "backward", backward):
        train_detector(cfg, model, benchmark, first_hooks=[watch])
    return watch


def to_text(watch: Stopwatch) -> str:
    """Show milliseconds of an iteration and percentages, the largest first."""
    seconds = dict(watch.seconds)
    whole, backward = seconds.pop("all"), seconds.pop("backward")
    seconds["backward, heads"] = backward - seconds.get("backward, backbone", 0.0)
    seconds["the rest: clipping, checks, sums"] = whole - sum(seconds.values())
    rows = sorted(seconds.items(), key=lambda row: -row[1])
    lines = [
        f"{name:34} {1000 * value / watch.counted:9.2f} ms {100 * value / whole:6.1f} %"
        for name, value in [*rows, ("an iteration", whole)]
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="of a training run")
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="behind --")
    args = parser.parse_args()
    if args.iterations < 1:
        parser.error("iterations are counted from 1")
    try:
        print(to_text(profile(args.config_file, args.overrides, args.iterations)))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
