"""Which image comes when, and with which random numbers: functions of seed and position alone.

The k-th sample of a training run, counted over all processes, is image `image_at(k, ...)` under an
augmentation drawn from `random_numbers(seed, k)`. Whoever knows the iteration knows the rest, so
that resuming needs no state, and the number of workers changes nothing.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch


def image_at(position: int, *, images: int, seed: int) -> int:
    """Return the index of the image that is the `position`-th sample; every epoch is a shuffle.

    Args:
        position: counted from 0 over all processes and epochs.
        images: size of the data set, at least 1.
        seed: of the run.
    """
    epoch, place = divmod(position, images)
    return int(_shuffled(images, seed, epoch)[place])


def candidates(position: int, *, images: int, seed: int) -> Iterator[int]:
    """Yield the image that is the `position`-th sample, then all others, should it be bad.

    The others come in an order of their own for every position.
    """
    first = image_at(position, images=images, seed=seed)
    yield first
    order = np.random.default_rng(derived_seed("candidates", seed, position)).permutation(images)
    yield from (index for index in order.tolist() if index != first)


@lru_cache(maxsize=2)  # a batch may lie across the border of two epochs
def _shuffled(images: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(images)


def positions(start: int, batch: int, *, rank: int, processes: int) -> Iterator[int]:
    """Yield the samples of one of several processes, from batch `start` on, without end.

    Args:
        start: number of whole batches to leave out.
        batch: samples of a batch over all processes, a multiple of `processes`.
        rank: of this process.
        processes: number of them; every `processes`-th sample belongs to one.
    """
    position = start * batch + rank
    while True:
        yield position
        position += processes


def is_held_out(image_id: object, share: float) -> bool:
    """Whether an image is among the `share` (0..1) held out, whatever other images there are."""
    return derived_seed("held out", str(image_id)) < share * 2**32


def derived_seed(*parts: int | str) -> int:
    """Return a seed in 0..2^32-1 that depends on all parts and on nothing else."""
    text = "\n".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


@contextmanager
def random_numbers(*parts: int | str) -> Iterator[None]:
    """Seed the generators of Python, NumPy and torch (CPU) by `parts`, and restore them at the end.

    Detectron2's augmentations draw from NumPy's global generator.
    """
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = derived_seed(*parts)
    random.seed(seed)
    np.random.seed(seed)
    torch.random.default_generator.manual_seed(seed)  # no GPU's, unlike torch.manual_seed
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])


def seed_everything(*parts: int | str) -> None:
    """Seed the generators of Python, NumPy and torch, of all devices, by `parts`."""
    seed = derived_seed(*parts)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
