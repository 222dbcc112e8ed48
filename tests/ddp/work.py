"""What each of two processes does in test_two_processes.py; imported by them alone."""

import datetime
import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from sora_det.engine.train import score
from sora_det.engine.trainer import Trainer
from sora_det.evaluation import DomainTable
from tests.tools.mean_square import Batch, MeanSquare, batches
from tests.tools.tiny_run import MANY_BOXES, tiny

STEPS, IMAGES = 3, 8  # images over all processes


def steps(model: torch.nn.Module, loader: list[Batch], **options: Any) -> dict[str, Any]:
    """Train with momentum and clipping and return the weights and the recorded losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trainer = Trainer(model, lambda start: loader, optimizer, clip_norm=1.0, **options)
    trainer.train(0, STEPS)
    return {
        "weights": torch.nn.utils.parameters_to_vector(model.parameters()).detach(),
        "losses": [value for value, _ in trainer.storage.history("total_loss").values()],
        "norms": [value for value, _ in trainer.storage.history("grad_norm").values()],
    }


def shard(batch: Batch, rank: int, parts: int) -> list[Batch]:
    """Return the `parts` equal batches of one process out of two."""
    own = batch[rank::2]
    size = len(own) // parts
    return [own[i * size : (i + 1) * size] for i in range(parts)]


def untrained(toy: Path, output: Path, seed: int) -> DomainTable:
    """Score a detector of random numbers on the source domain."""
    cfg = tiny(toy, output, *MANY_BOXES)
    torch.manual_seed(seed)
    return score(cfg, domains="source")


def work(rank: int, folder: Path, toy: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
    found: dict[str, Any] = {}
    for accumulate in (1, 2):
        model = MeanSquare()
        if rank == 1:
            torch.nn.init.zeros_(model.layer.weight)  # DDP starts from the first process's weights
        wrapped = DistributedDataParallel(model, device_ids=None)
        loader = [part for b in batches(STEPS, IMAGES) for part in shard(b, rank, accumulate)]
        found[f"accumulate {accumulate}"] = steps(wrapped, loader, accumulate=accumulate)
    broken = [shard(batch, rank, 1)[0] for batch in batches(STEPS, IMAGES)]
    if rank == 1:
        broken[1][0]["y"].fill_(math.nan)
    try:
        steps(wrapped, broken)
    except FloatingPointError as error:
        found["error"] = str(error)
    found["table"] = untrained(toy, folder, seed=rank).to_json()
    torch.save(found, folder / f"found{rank}.pth")
    del wrapped
    dist.destroy_process_group()
