"""What may happen to a process among several; a hook for jobs that tests start."""

import os
import signal
import threading
import time
from pathlib import Path

from detectron2.engine import HookBase
from detectron2.utils import comm

from tests.tools.tiny_run import CONFIG

SECONDS = 600  # that something hangs: longer than any test waits


def write_config(folder: Path, kind: str, *, at: int, retinanet: bool = False) -> Path:
    """Write the toy config with a `Fault`, and perhaps with another head, into a new folder."""
    folder.mkdir()
    (folder / "common").symlink_to(CONFIG.parent / "common")
    text = CONFIG.read_text()
    if retinanet:
        lines = [line for line in text.splitlines() if not line.startswith("model.")]
        lines.append("model.head.conv_dims = [16]")
        text = "\n".join(lines).replace("heads.faster_rcnn", "heads.retinanet")
    fault = f"""
from detectron2.config import LazyCall as L
from tests.ddp.faults import Fault
hooks["fault"] = L(Fault)(kind="{kind}", at={at})
"""
    path = folder / CONFIG.name
    path.write_text(text + fault)
    return path


class Fault(HookBase):
    """One process comes to harm before iteration `at`, when its job is started for the first time.

    Args:
        kind: "none"; "killed"; "error", an exception; "lingering", an exception in a process whose
            end is held up; "unheard", killed while the others wait where no signal reaches them,
            as in an all-reduce on a GPU.
        at: iteration.
        rank: of the process.
    """

    def __init__(self, kind: str, *, at: int, rank: int = 1) -> None:
        self.kind, self.at, self.rank = kind, at, rank

    def before_step(self) -> None:
        first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        if self.kind == "none" or not first or self.trainer.iter != self.at:
            return
        if comm.get_rank() == self.rank:
            self._harm()
        elif self.kind == "unheard":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
            time.sleep(SECONDS)

    def _harm(self) -> None:
        if self.kind in ("killed", "unheard"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "lingering":
            threading.Thread(target=time.sleep, args=(SECONDS,)).start()
        raise RuntimeError("power cut")
