"""Start one process per GPU, by Detectron2's `launch` or as a worker of `torchrun`."""

import argparse
import os
import sys
from collections.abc import Callable

import torch
import torch.distributed as dist
from detectron2.engine import launch as detectron2_launch
from torch.multiprocessing import ProcessExitedException

from ..detectron2_compat import create_local_process_group


def launch(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """Run `main(args)` in every process that `args` or torchrun's environment asks for.

    Args:
        main: what each process does.
        args: of Detectron2's `default_argument_parser`; under torchrun its process counts are not
            used.

    Raises:
        SystemExit: a process has ended by `sys.exit`, which printed its reason.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _torchrun_worker(main, args)
    else:
        try:
            detectron2_launch(
                main,
                args.num_gpus,
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=args.dist_url,
                args=(args,),
            )
        except ProcessExitedException as error:
            if error.signal_name is not None:  # killed, for want of memory perhaps
                raise
            sys.exit(error.exit_code)


def _torchrun_worker(
    main: Callable[[argparse.Namespace], object], args: argparse.Namespace
) -> None:
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
        main(args)
    finally:
        dist.destroy_process_group()
