"""Two processes give the table that one gives."""

import datetime
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.structures import Instances
from evaluation_fakes import Oracle, loader, noisy, write_benchmark
from torch.nn.parallel import DistributedDataParallel

from sora_det.evaluation import DomainTable
from sora_det.evaluation.run import evaluate

IMAGES = {"clear": 7, "fog": 5, "night": 1}  # none divisible by two; the last leaves one idle


def diverged(found: Instances, _: str) -> Instances:
    found.scores[:] = float("nan")
    return found


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
    benchmark = write_benchmark(folder / f"data{rank}", IMAGES)
    model = DistributedDataParallel(Oracle(benchmark, noisy), device_ids=None)
    table = evaluate(model, benchmark, loader=loader(benchmark), output_dir=folder / "out")
    (folder / f"table{rank}.json").write_text(table.to_json())

    model.module.change = diverged
    try:
        evaluate(model, benchmark, loader=loader(benchmark))
    except (ValueError, RuntimeError) as error:
        (folder / f"error{rank}.txt").write_text(f"{type(error).__name__}: {error}")
    del model
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    context = mp.start_processes(work, (tmp_path,), nprocs=2, join=False, start_method="spawn")
    benchmark = write_benchmark(tmp_path / "data", IMAGES)
    alone = evaluate(Oracle(benchmark, noisy), benchmark, loader=loader(benchmark))
    end = time.monotonic() + 180
    while not context.join(timeout=5):
        assert time.monotonic() < end, "the two processes do not end"

    for rank in (0, 1):
        assert DomainTable.from_json((tmp_path / f"table{rank}.json").read_text()) == alone
    assert 0 < alone.scores[0].ap50 < 100
    assert (tmp_path / "out" / "results.json").read_text() == alone.to_json()
    errors = [(tmp_path / f"error{rank}.txt").read_text() for rank in (0, 1)]
    assert errors[0].startswith("ValueError: 25 of 25 detections")
    assert errors[1].startswith("RuntimeError: the first process failed with ValueError: 25 of 25")
