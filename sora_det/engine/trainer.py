"""The training loop: mixed precision, clipping and accumulation on Detectron2's TrainerBase."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data.order import seed_everything
from .files import append
from .metrics import History, keep_lines, recent_history, restore_history

logger = logging.getLogger(__name__)

BAD_STEPS = "bad_steps.jsonl"
NORMALIZER = "loss_normalizer"  # RetinaNet's attribute: a running number of matched anchors
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Trainer(TrainerBase):
    """One optimiser step an iteration, on CPU or GPU, in one process or many.

    Random numbers of a step follow from the seed, the iteration and the process alone, so that a
    resumed run goes on as if it had never stopped.

    Args:
        model: maps a batch to a dictionary of losses; DistributedDataParallel or not.
        batches: called with the number of batches to leave out, those of the iterations before
            the first; returns the endless rest, each a list of Detectron2's dataset dictionaries.
        optimizer: any torch optimiser.
        precision: float32, bfloat16, or float16, which scales the loss.
        clip_norm: largest norm of all gradients together; None does not clip.
        accumulate: batches that one step averages over.
        seed: of the random numbers of every step.
        max_bad_steps: steps in a row whose loss or gradient may be not finite. Such a step changes
            nothing, and the ids and files of its images are written down. A gradient does not
            count as long as a smaller scale of the loss may help, with float16.
        folder: where that is, as bad_steps.jsonl; None for nowhere.

    Raises:
        ValueError: an unknown precision, `accumulate` below 1.
        FloatingPointError: (while training) too many bad steps in a row.
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
        seed: int = 0,
        max_bad_steps: int = 0,
        folder: str | Path | None = None,
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
        self.seed, self.max_bad_steps = seed, max_bad_steps
        self.folder = None if folder is None else Path(folder)
        self.bad_steps = 0  # in a row, up to now
        self.stop_asked = False  # of this process, by a signal
        self.stop_agreed = False  # one of the processes was asked; all know it after the same step
        self._history: History = {}
        model.train()

    def before_train(self) -> None:
        super().before_train()
        restore_history(self.storage, self._history)
        if self.folder is not None and comm.is_main_process():
            keep_lines(self.folder / BAD_STEPS, self.start_iter)
        self._batches = iter(self.batches(self.start_iter * self.accumulate))

    def run_step(self) -> None:
        seed_everything("step", self.seed, self.iter, comm.get_rank())
        losses: dict[str, Tensor] = {}
        images: list[dict[str, Any]] = []
        data_time = 0.0
        for part in range(self.accumulate):
            start = time.perf_counter()
            batch = next(self._batches)
            data_time += time.perf_counter() - start
            images += [
                {key: image.get(key) for key in ("image_id", "file_name")} for image in batch
            ]
            with self._synchronised(last=part == self.accumulate - 1):
                with (
                    torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None),
                    # It rewrites a scripted loss after its first calls, which rounds otherwise: a
                    # resumed run would not repeat it. On a GPU nothing is exact, and it is faster.
                    torch.jit.optimized_execution(self.device.type != "cpu"),
                ):
                    partial = self.model(batch)
                self.scaler.scale(sum(partial.values()) / self.accumulate).backward()
            for name, value in partial.items():
                losses[name] = losses.get(name, 0) + value.detach().float() / self.accumulate
        means = self._means(losses)
        fault = self._step(means)
        if fault:
            self._note_bad_step(fault, means, images)
        else:
            self.bad_steps = 0
            self.storage.put_scalars(total_loss=sum(means.values()), **means)
        self.storage.put_scalar("data_time", data_time)

    def _synchronised(self, *, last: bool) -> AbstractContextManager[None]:
        """Exchange gradients between processes only once per step."""
        if isinstance(self.model, DistributedDataParallel) and not last:
            return self.model.no_sync()
        return nullcontext()

    def _step(self, means: Mapping[str, float]) -> str:
        """Change the weights, unless loss or gradient are not finite; say then which is not."""
        self.scaler.unscale_(self.optimizer)
        limit = math.inf if self.clip_norm is None else self.clip_norm
        norm = nn.utils.clip_grad_norm_(self.parameters, limit).item()
        fault = "" if math.isfinite(sum(means.values())) else "loss"
        if not fault and not math.isfinite(norm) and self.scaler.get_scale() <= 1:
            fault = "gradient"  # of a larger scale the scaler takes half and leaves out the step
        if not fault:
            self.storage.put_scalar("grad_norm", norm)
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return fault

    def _means(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the mean of every loss over the processes, and agree on whether to stop."""
        values = torch.stack(
            [*losses.values(), torch.tensor(float(self.stop_asked)).to(self.device)]
        )
        if comm.get_world_size() > 1:
            dist.all_reduce(values)
            values /= comm.get_world_size()
        *means, asked = values.tolist()
        self.stop_agreed = asked > 0
        return dict(zip(losses, means, strict=True))

    def _note_bad_step(
        self, fault: str, means: Mapping[str, float], images: list[dict[str, Any]]
    ) -> None:
        self.bad_steps += 1
        everywhere = [image for part in comm.gather(images) for image in part]
        if self.folder is not None and comm.is_main_process():
            row = {"iteration": self.iter, "not_finite": fault, "images": everywhere}
            losses = {name: repr(value) for name, value in means.items()}
            append(self.folder / BAD_STEPS, json.dumps({**row, "losses": losses}) + "\n")
        what = f"the {fault} is not finite at iteration {self.iter}: {dict(means)}"
        if self.bad_steps > self.max_bad_steps:
            where = f"; the images are listed in {self.folder / BAD_STEPS}" if self.folder else ""
            raise FloatingPointError(
                f"{what}, and {self.bad_steps} steps in a row were like that{where}; lower the "
                "learning rate, or look for broken annotations"
            )
        logger.warning("%s; the step is left out (%d in a row)", what, self.bad_steps)

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "bad_steps": self.bad_steps,
            "history": recent_history(self.storage),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.scaler.load_state_dict(state_dict["scaler"])
        self.bad_steps = state_dict["bad_steps"]
        self._history = state_dict["history"]

    def local_state(self) -> dict[str, float]:
        """Return the state that each process has of its own, for RetinaNet counts its anchors."""
        value = getattr(self._detector(), NORMALIZER, None)
        return {} if value is None else {NORMALIZER: float(value)}

    def load_local_state(self, states: Sequence[Mapping[str, float]]) -> None:
        """Take this process's part of all `local_state`s; with more processes, another's."""
        state = states[comm.get_rank() % len(states)] if states else {}
        if NORMALIZER in state:
            setattr(self._detector(), NORMALIZER, float(state[NORMALIZER]))

    def _detector(self) -> nn.Module:
        if isinstance(self.model, DistributedDataParallel):
            inner: nn.Module = self.model.module
            return inner
        return self.model
