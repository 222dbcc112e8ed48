"""The smallest training that several processes can share: job.py FOLDER FAULT."""

import argparse
import itertools
import time
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

import torch  # noqa: E402  after the filter
from detectron2.engine import HookBase, TrainerBase, default_argument_parser  # noqa: E402
from detectron2.utils import comm  # noqa: E402

from sora_det.engine.checkpoint import Checkpoints  # noqa: E402
from sora_det.engine.launch import distributed, launch  # noqa: E402
from sora_det.engine.save import SaveCheckpoints  # noqa: E402
from sora_det.engine.trainer import Trainer  # noqa: E402
from tests.ddp.faults import Fault  # noqa: E402
from tests.tools.mean_square import MeanSquare, batches  # noqa: E402

STEPS = 10_000  # minutes: long enough for any test, and what a test leaves behind ends by itself


class Pace(HookBase):
    """Leaves the processor to others and says when training is under way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def after_step(self) -> None:
        time.sleep(0.02)
        if self.trainer.iter == 2 and comm.is_main_process():
            (self.folder / "under way").touch()


def state(trainer: TrainerBase) -> dict[str, Any]:
    time.sleep(1)  # the other process is done long before
    return {"model": trainer.model.state_dict(), "trainer": trainer.state_dict()}


def main(args: argparse.Namespace) -> None:
    folder, fault = Path(args.opts[0]), args.opts[1]
    torch.set_num_threads(1)
    model = distributed(MeanSquare(), {"broadcast_buffers": False})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    trainer = Trainer(model, lambda start: itertools.cycle(batches(3, 2)), optimizer)
    saving = SaveCheckpoints(Checkpoints(folder), state, period=10**6)
    trainer.register_hooks([Fault(fault, at=4), Pace(folder), saving])
    trainer.train(0, STEPS)


if __name__ == "__main__":
    parser = default_argument_parser()
    parser.set_defaults(dist_url="auto")
    launch(main, parser.parse_args())
