"""One process per GPU: started here as Detectron2's `launch` does it, by torchrun or by SLURM."""

import argparse
import faulthandler
import multiprocessing
import os
import signal
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm
from torch import nn
from torch.multiprocessing import ProcessExitedException
from torch.nn.parallel import DistributedDataParallel

from ..detectron2_compat import create_local_process_group
from .stop import STOPPED, stop_signals

Main = Callable[[argparse.Namespace], object]

# What whoever has started this process, one of several, says of it: all of these or none.
ENVIRONMENT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LINGER = 20  # seconds that a failed process may take to end


def launch(main: Main, args: argparse.Namespace) -> None:
    """Run `main(args)` in every process that `args` or the environment asks for.

    A process that torchrun or a SLURM task has started, as RANK, LOCAL_RANK, WORLD_SIZE,
    LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT tell, joins the others and starts none. When one
    process fails, the rest are ended within a minute, wherever they wait. SIGTERM, SIGINT and
    SIGUSR2 are passed on; outside of training, which has its own way, they end a process with the
    exit code 75.

    Args:
        main: what each process does; to be pickled if processes are started here.
        args: of Detectron2's `default_argument_parser`; the environment goes before its counts.

    Raises:
        SystemExit: a process has ended by `sys.exit`, which printed its reason; or there are
            several machines and no address where they meet.
    """
    if all(name in os.environ for name in ENVIRONMENT):
        _join()
        _work(main, args)
    elif args.num_gpus * args.num_machines == 1:
        with stop_signals(_end):
            main(args)
    else:
        _start(main, args)


def check_restarts(*, resume: bool) -> None:
    """Refuse a training that torchrun is to start again but that could not go on then.

    Raises:
        ValueError: torchrun has `--max-restarts`, and `resume` is false.
    """
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0))
    if restarts and not resume:
        raise ValueError(
            f"torchrun is to start a failed training again (--max-restarts {restarts}): pass "
            "--resume, which goes on from the last checkpoint and begins anew where there is none"
        )


def name_start(store: dist.Store, rank: int, size: int) -> str:
    """Return a name that all processes of this start have in common, and those of no other.

    torchrun keeps one store over all starts, with the addresses of processes that are gone (torch
    2.15), and counts restarts on each machine by itself (pytorch/pytorch#135712). It does end all
    processes before it starts any anew.

    Args:
        store: shared by all.
        rank: of this process, which calls this once.
        size: number of processes.
    """
    own = uuid.uuid4().hex
    if rank != 0:
        store.set(f"here is {rank}", own)
        start: bytes = store.get(f"answer to {own}")  # waits for it
        store.set(f"{start.decode()} has {rank}", "")
        return start.decode()
    missing = set(range(1, size))
    while missing:
        for other in list(missing):
            if store.check([f"{own} has {other}"]):
                missing.remove(other)
            elif store.check([f"here is {other}"]):  # perhaps one that is gone: hence the loop
                store.set(f"answer to {store.get(f'here is {other}').decode()}", own)
        time.sleep(0.01)
    return own


def distributed(model: nn.Module, options: Mapping[str, Any]) -> nn.Module:
    """Wrap `model` for gradient exchange if there are several processes, on GPU or CPU.

    Args:
        model: on its device.
        options: of DistributedDataParallel.
    """
    if comm.get_world_size() == 1:
        return model
    gpu = next(model.parameters()).is_cuda
    if not gpu and dist.get_backend() == "nccl":
        raise ValueError(
            "several processes are to train on the CPU of a machine with GPUs: start them with "
            "CUDA_VISIBLE_DEVICES= so that they talk through gloo"
        )
    devices = [torch.cuda.current_device()] if gpu else None
    with warnings.catch_warnings():
        # Torch 2.15 has a new name for it, which the releases before do not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(model, device_ids=devices, **options)


def _join() -> None:
    """Make the process groups, of all processes and of those on this machine."""
    gpus = torch.cuda.device_count()
    if gpus:  # only one is seen where SLURM or submitit gives every task its own
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) if gpus > 1 else 0)
    store, rank, size = next(dist.rendezvous("env://"))
    if "TORCHELASTIC_RUN_ID" in os.environ:
        store = dist.PrefixStore(name_start(store, rank, size), store)
    backend = "nccl" if gpus else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))


def _work(main: Main, args: argparse.Namespace, parent: int | None = None) -> None:
    """Call `main` in one of several processes, whose groups have been made."""
    if parent is not None and os.getppid() != parent:
        sys.exit("error: what has started this process was killed")  # before it could be told
    try:
        with stop_signals(_end):
            main(args)
    except BaseException as error:
        if not (isinstance(error, SystemExit) and error.code == STOPPED):
            # The others may wait for what this one will never send, and whoever has started them
            # sees only that a process has ended: neither NCCL nor a thread may hold this one up.
            faulthandler.dump_traceback_later(LINGER, exit=True)
        raise
    dist.destroy_process_group()  # not after a failure: NCCL would wait for the others


def _start(main: Main, args: argparse.Namespace) -> None:
    if args.num_machines > 1 and args.dist_url == "auto":
        sys.exit(
            "error: several machines need the address where they meet: pass "
            "--dist-url tcp://<first machine>:<port> to all of them"
        )
    with _passed_on() as asked:
        try:
            detectron2_launch(
                _work,
                args.num_gpus,
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=args.dist_url,
                args=(main, args, os.getpid()),
            )
        except ProcessExitedException as error:
            if error.signal_name is None:
                sys.exit(error.exit_code)
            if asked:  # it came before the process could handle it
                sys.exit(STOPPED)
            raise  # killed, for want of memory perhaps


@contextmanager
def _passed_on() -> Iterator[list[int]]:
    """Tell the processes that are started meanwhile to stop when this one is told to.

    Always by SIGTERM: a second SIGINT would end them at once, and a terminal sends them the first.
    """
    asked: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        asked.append(number)
        for process in multiprocessing.active_children():
            with suppress(ProcessLookupError):
                os.kill(process.pid or 0, signal.SIGTERM)

    with stop_signals(pass_on):
        yield asked


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(STOPPED)
