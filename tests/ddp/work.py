"""What each process does in test_processes_together.py; imported by them alone."""

import datetime
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile

from sora_det.data import test_loader
from sora_det.engine.launch import distributed
from sora_det.engine.train import build, score
from sora_det.engine.trainer import Trainer
from sora_det.evaluation import DomainTable
from sora_det.evaluation.run import evaluate
from tests.tools.mean_square import Batch, MeanSquare, batches
from tests.tools.tiny_heads import HEADS, use_head
from tests.tools.tiny_run import MANY_BOXES, tiny
from tests.unit.evaluation.evaluation_fakes import Oracle, loader, noisy, write_benchmark

STEPS, IMAGES = 3, 8  # images over all processes
SIZES = range(1, 12)  # of data sets; some smaller than the number of processes
DOMAINS = {"clear": 7, "fog": 5, "night": 1}  # images; no multiple of 2 or 4


def steps(model: nn.Module, loader: list[Batch], **options: Any) -> dict[str, Any]:
    """Train with momentum and clipping; return gradients, weights and the recorded losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    gradients: list[torch.Tensor] = []

    def keep(_: Optimizer, *__: Any) -> None:
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))

    optimizer.register_step_pre_hook(keep)
    trainer = Trainer(model, lambda start: loader, optimizer, clip_norm=1.0, **options)
    trainer.train(0, STEPS)
    return {
        "gradients": torch.stack(gradients),  # (step, parameter)
        "weights": nn.utils.parameters_to_vector(model.parameters()).detach(),
        "losses": [value for value, _ in trainer.storage.history("total_loss").values()],
        "norms": [value for value, _ in trainer.storage.history("grad_norm").values()],
    }


def shard(batch: Batch, rank: int, processes: int, parts: int) -> list[Batch]:
    """Return the `parts` equal batches of one process out of several."""
    own = batch[rank::processes]
    size = len(own) // parts
    return [own[i * size : (i + 1) * size] for i in range(parts)]


def untrained(toy: Path, output: Path, seed: int) -> DomainTable:
    """Score a detector of random numbers on the source domain."""
    cfg = tiny(toy, output, *MANY_BOXES)
    torch.manual_seed(seed)
    return score(cfg, domains="source")


def table(folder: Path) -> DomainTable:
    """Score a detector that nearly knows, on domains of `DOMAINS`' sizes."""
    benchmark = write_benchmark(folder, DOMAINS)
    return evaluate(Oracle(benchmark, noisy), benchmark, loader=loader(benchmark))


def images_to_score(size: int) -> list[int]:
    """Return which of `size` images the project's loader gives to this process."""
    name = f"{size} images"
    DatasetCatalog.register(name, lambda: [{"image_id": i} for i in range(size)])
    given = test_loader(dataset_name=name, augmentations=[], num_workers=0).batch_sampler
    return [index for batch in given for index in batch]


class ThirdStep(HookBase):
    """Notes what the processes exchange in the third step; DDP settles in the first two."""

    def before_step(self) -> None:
        if self.trainer.iter == 2:
            self.profile = profile(activities=[ProfilerActivity.CPU], record_shapes=True)
            self.profile.start()

    def after_step(self) -> None:
        if self.trainer.iter == 2:
            self.profile.stop()
            self.exchanged: Counter[str] = Counter()  # numbers by kind of exchange
            for event in self.profile.events():
                if event.name.startswith("gloo:"):
                    self.exchanged[event.name] += sum(map(math.prod, event.input_shapes))


def exchange(toy: Path, output: Path, head: str) -> dict[str, Any]:
    """Train an adapted detector with the config's own DDP options, and count what is exchanged."""
    cfg = use_head(tiny(toy, output, "dataloader.train.total_batch_size=4"), head)
    _, model = build(cfg)
    cfg.optimizer.params.model = model
    trainer = Trainer(
        distributed(model, dict(cfg.train.ddp)),
        lambda start: instantiate(cfg.dataloader.train),
        instantiate(cfg.optimizer),
    )
    watch = ThirdStep()
    trainer.register_hooks([watch])
    trainer.train(0, 3)
    counts = {True: 0, False: 0}
    for parameter in model.parameters():
        counts[parameter.requires_grad] += parameter.numel()
    losses = [name for name in trainer.storage.latest() if name.startswith("loss")]
    return {
        "exchanged": dict(watch.exchanged),
        "trained": counts[True],
        "frozen": counts[False],
        "losses": len(losses),
    }


def report(rank: int, processes: int, folder: Path, toy: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for accumulate in (1, 2):
        model = MeanSquare()
        if rank > 0:
            nn.init.zeros_(model.layer.weight)  # DDP starts from the first process's weights
        wrapped = distributed(model, {"broadcast_buffers": False})
        shares = [
            part
            for batch in batches(STEPS, IMAGES)
            for part in shard(batch, rank, processes, accumulate)
        ]
        found[f"accumulate {accumulate}"] = steps(wrapped, shares, accumulate=accumulate)
    broken = [shard(batch, rank, processes, 1)[0] for batch in batches(STEPS, IMAGES)]
    if rank == processes - 1:
        broken[1][0]["y"].fill_(math.nan)
    try:
        steps(wrapped, broken)
    except FloatingPointError as error:
        found["error"] = str(error)
    found["table"] = table(folder / f"data {processes} {rank}").to_json()
    found["images"] = {size: images_to_score(size) for size in SIZES}
    if processes == 2:
        found["untrained"] = untrained(toy, folder, seed=rank).to_json()
        found["exchange"] = {head: exchange(toy, folder / f"{rank} {head}", head) for head in HEADS}
    return found


@contextmanager
def group(rank: int, processes: int, store: Path) -> Iterator[None]:
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=processes,
        timeout=datetime.timedelta(seconds=120),
    )
    comm._get_global_gloo_group.cache_clear()  # it is that of the group before
    try:
        yield
    finally:
        dist.destroy_process_group()


def work(rank: int, folder: Path, toy: Path) -> None:
    """Be one of four processes, and then one of two if `rank` is below that."""
    torch.set_num_threads(1)
    for processes in (4, 2):
        if rank < processes:
            with group(rank, processes, folder / f"store {processes}"):
                found = report(rank, processes, folder, toy)
            torch.save(found, folder / f"found {processes} {rank}.pth")
            DatasetCatalog.clear()
