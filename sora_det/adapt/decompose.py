"""How the low-rank terms of many layers start: checked, batched by shape, remembered on disk."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from .errors import AdaptationError
from .low_rank import Added, Split, Start, check_scale, check_weight, residual
from .start_file import Factors
from .svd import GPU_BATCH

T = TypeVar("T")
Progress = Callable[[Sequence[T]], Iterable[T]]  # such as tqdm


@dataclass(frozen=True)
class Plan:
    """One layer to be split."""

    weight: Tensor  # (group, out / group, in)
    rank: int
    scale: float

    @property
    def kind(self) -> tuple[Any, ...]:
        """What layers must share to be split in one batch."""
        return (self.weight.shape[1:], self.weight.dtype, self.weight.device, self.rank, self.scale)


def check_plans(plans: Mapping[str, Plan]) -> None:
    """Raise AdaptationError, with the layer's name, for a plan that cannot be carried out."""
    for name, plan in plans.items():
        try:
            check_scale(plan.scale)
            check_weight(plan.weight, plan.rank)
        except AdaptationError as error:
            raise AdaptationError(f"layer {name}: {error}") from error


def split_all(
    plans: Mapping[str, Plan], start: Start, *, progress: Progress[Any] | None = None
) -> dict[str, Split]:
    """Split every layer as `start` says, those of one shape together.

    Args:
        plans: by layer name.
        start: maps (matrices, out, in) to a Split.
        progress: wraps the sequence of batches, as tqdm does.
    """
    batches = _batches(plans)
    splits: dict[str, Split] = {}
    for names in batches if progress is None else progress(batches):
        first, sizes = plans[names[0]], [len(plans[name].weight) for name in names]
        together = torch.cat([plans[name].weight for name in names])
        whole = start(together, first.rank, scale=first.scale)
        parts = (whole.residual.split(sizes), whole.up.split(sizes), whole.down.split(sizes))
        for name, rest, up, down in zip(names, *parts, strict=True):
            # A layer owns its memory: views of one tensor could not be saved apart.
            splits[name] = type(whole)(rest.clone(), up.clone(), down.clone())
    return {name: splits[name] for name in plans}


def split_again(
    plans: Mapping[str, Plan], known: Mapping[str, Factors], *, added: bool
) -> dict[str, Split]:
    """Split every layer by factors that are known already: a subtraction each."""
    splits: dict[str, Split] = {}
    for name, plan in plans.items():
        up, down = (factor.to(plan.weight.device) for factor in known[name])
        if added:
            splits[name] = Added(plan.weight.clone(), up, down)
        else:
            splits[name] = Split(residual(plan.weight, up, down, plan.scale), up, down)
    return splits


def _batches(plans: Mapping[str, Plan]) -> list[list[str]]:
    """Gather names by kind, at most as many matrices each as a GPU takes at once."""
    kinds: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for name, plan in plans.items():
        kinds[plan.kind].append(name)
    # Without a GPU nothing is gained by waiting: one layer, one step of the progress bar.
    most = GPU_BATCH if torch.cuda.is_available() else 1
    batches = []
    for names in kinds.values():
        size = max(1, most // len(plans[names[0]].weight))
        batches += [names[i : i + size] for i in range(0, len(names), size)]
    return batches
