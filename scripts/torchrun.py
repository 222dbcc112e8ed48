#!/usr/bin/env python
"""torchrun, but for its exit code: 75 where training has stopped because it was asked to.

    python scripts/torchrun.py --standalone --nproc-per-node 4 --max-restarts 3 \\
        scripts/train_net.py --config-file configs/toy_sora_frcnn.py --resume

torchrun itself ends with 1 then, as after a failure, and no scheduler could tell them apart.
"""

import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from sora_det.engine.stop import STOPPED


def main() -> None:
    try:
        run.main()
    except SignalException:  # the processes had the time that torchrun gives them
        sys.exit(STOPPED)
    except ChildFailedError as error:
        if any(failure.exitcode == STOPPED for failure in error.failures.values()):
            sys.exit(STOPPED)
        raise


if __name__ == "__main__":
    main()
