import argparse
import faulthandler
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist
from detectron2.engine import default_argument_parser
from detectron2.utils import comm

from sora_det.engine.launch import LINGER, check_restarts, launch, name_start
from sora_det.engine.stop import SIGNALS


def arguments(*given: str) -> argparse.Namespace:
    return default_argument_parser().parse_args(list(given))


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that torchrun gives the only worker it starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {
        "TORCHELASTIC_RUN_ID": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "RANK": 0,
        "LOCAL_RANK": 0,
        "WORLD_SIZE": 1,
        "LOCAL_WORLD_SIZE": 1,
        "CUDA_VISIBLE_DEVICES": "",
    }.items():
        monkeypatch.setenv(name, str(value))
    if hasattr(comm, "_LOCAL_PROCESS_GROUP"):
        monkeypatch.setattr(comm, "_LOCAL_PROCESS_GROUP", None)


def test_one_process_calls_main_itself() -> None:
    calls = []
    args = arguments("--config-file", "x.py", "a=1")
    launch(calls.append, args)
    assert calls == [args]
    assert args.opts == ["a=1"]


@pytest.mark.usefixtures("torchrun")
def test_worker_of_torchrun_has_its_process_groups() -> None:
    seen = []

    def main(_args: argparse.Namespace) -> None:
        seen.append((dist.get_backend(), comm.get_world_size(), comm.get_local_size()))

    launch(main, arguments("--num-gpus", "4"))  # torchrun's own number of processes counts
    assert seen == [("gloo", 1, 1)]
    assert not dist.is_initialized()


@pytest.mark.usefixtures("torchrun")
def test_a_failed_worker_has_a_limited_time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda s, exit: limits.append(s))

    def main(_args: argparse.Namespace) -> None:
        raise ValueError("wrong data")

    with pytest.raises(ValueError, match="wrong data"):
        launch(main, arguments())
    dist.destroy_process_group()
    assert limits == [LINGER]


@pytest.mark.usefixtures("torchrun")
def test_a_stopped_worker_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faulthandler, "dump_traceback_later", None)
    with pytest.raises(SystemExit) as ended:
        launch(lambda _args: sys.exit(75), arguments())
    dist.destroy_process_group()
    assert ended.value.code == 75


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_outside_of_training_ends_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        launch(lambda _args: os.kill(os.getpid(), number), arguments())
    assert ended.value.code == 75
    assert signal.getsignal(number) is before


def test_several_machines_need_an_address() -> None:
    args = arguments("--num-gpus", "1", "--num-machines", "2", "--dist-url", "auto")
    with pytest.raises(SystemExit, match="pass --dist-url tcp://"):
        launch(lambda _args: None, args)


def test_what_torchrun_starts_again_must_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    check_restarts(resume=False)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "0")
    check_restarts(resume=False)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    check_restarts(resume=True)
    with pytest.raises(ValueError, match=r"\(--max-restarts 3\): pass --resume"):
        check_restarts(resume=False)


def test_every_start_has_a_name_of_its_own() -> None:
    """Although the store keeps what those before have left, one of them half way."""
    store = dist.HashStore()
    names = []
    for start in range(3):
        if start == 1:
            store.set("here is 2", "gone before it was answered")
        with ThreadPoolExecutor(3) as threads:
            ranks = [2, 0, 1] if start % 2 else [0, 1, 2]
            waiting = [threads.submit(name_start, store, rank, 3) for rank in ranks]
            found = {future.result(timeout=30) for future in waiting}
        assert len(found) == 1
        names += found
    assert len(set(names)) == 3
