import argparse
import socket

import pytest
import torch.distributed as dist
from detectron2.engine import default_argument_parser
from detectron2.utils import comm

from sora_det.engine.launch import launch


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
def test_worker_of_torchrun_leaves_its_group_on_failure() -> None:
    def main(_args: argparse.Namespace) -> None:
        raise ValueError("wrong data")

    with pytest.raises(ValueError, match="wrong data"):
        launch(main, arguments())
    assert not dist.is_initialized()
