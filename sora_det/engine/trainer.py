"""The training loop: mixed precision, clipping and accumulation on Detectron2's TrainerBase."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Trainer(TrainerBase):
    """One optimiser step an iteration, on CPU or GPU, in one process or many.

    Args:
        model: maps a batch to a dictionary of losses; DistributedDataParallel or not.
        batches: called with the number of batches to leave out, those of the iterations before
            the first; returns the endless rest, each a list of Detectron2's dataset dictionaries.
        optimizer: any torch optimiser.
        precision: float32, bfloat16, or float16, which scales the loss.
        clip_norm: largest norm of all gradients together; None does not clip.
        accumulate: batches that one step averages over.

    Raises:
        ValueError: an unknown precision, `accumulate` below 1.
        FloatingPointError: (while training) a loss, or without scaling a gradient, that is not
            finite; the weights are then those of the step before.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Callable[[int], Iterable[list[dict[str, Any]]]],
        optimizer: torch.optim.Optimizer,
        *,
        precision: str = "float32",
        clip_norm: float | None = None,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {sorted(PRECISIONS)}, got {precision!r}")
        if accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {accumulate}")
        self.model, self.optimizer = model, optimizer
        self.clip_norm, self.accumulate = clip_norm, accumulate
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.device = self.parameters[0].device
        self.dtype = PRECISIONS[precision]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        self.batches = batches
        model.train()

    def before_train(self) -> None:
        super().before_train()
        self._batches = iter(self.batches(self.start_iter * self.accumulate))

    def run_step(self) -> None:
        losses: dict[str, Tensor] = {}
        data_time = 0.0
        for part in range(self.accumulate):
            start = time.perf_counter()
            batch = next(self._batches)
            data_time += time.perf_counter() - start
            with self._synchronised(last=part == self.accumulate - 1):
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                    partial = self.model(batch)
                self.scaler.scale(sum(partial.values()) / self.accumulate).backward()
            for name, value in partial.items():
                losses[name] = losses.get(name, 0) + value.detach().float() / self.accumulate
        self._record(losses, data_time)
        self._step()

    def _synchronised(self, *, last: bool) -> AbstractContextManager[None]:
        """Exchange gradients between processes only once per step."""
        if isinstance(self.model, DistributedDataParallel) and not last:
            return self.model.no_sync()
        return nullcontext()

    def _step(self) -> None:
        self.scaler.unscale_(self.optimizer)
        limit = math.inf if self.clip_norm is None else self.clip_norm
        norm = nn.utils.clip_grad_norm_(self.parameters, limit)
        if not self.scaler.is_enabled() and not math.isfinite(norm):  # a scaler skips such steps
            raise FloatingPointError(
                f"the gradient is not finite at iteration {self.iter}; lower the learning rate, or "
                "look for broken annotations"
            )
        self.storage.put_scalar("grad_norm", norm.item())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _record(self, losses: Mapping[str, Tensor], data_time: float) -> None:
        """Put the mean over the processes of every loss into the event storage."""
        values = torch.stack(list(losses.values()))
        if comm.get_world_size() > 1:
            dist.all_reduce(values)
            values /= comm.get_world_size()
        named = dict(zip(losses, values.tolist(), strict=True))
        total = sum(named.values())
        if not math.isfinite(total):
            raise FloatingPointError(
                f"the loss is not finite at iteration {self.iter}: {named}; lower the learning "
                "rate, or look for broken annotations"
            )
        self.storage.put_scalars(total_loss=total, **named)
        self.storage.put_scalar("data_time", data_time)

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.scaler.load_state_dict(state_dict["scaler"])
