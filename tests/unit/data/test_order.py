import itertools
import random

import numpy as np
import pytest
import torch

from sora_det.data.order import derived_seed, image_at, is_held_out, positions, random_numbers


def test_every_epoch_is_a_shuffle() -> None:
    order = [image_at(k, images=10, seed=3) for k in range(30)]
    epochs = [order[:10], order[10:20], order[20:]]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    assert order != [image_at(k, images=10, seed=4) for k in range(30)]


def test_the_order_can_be_asked_anywhere() -> None:
    order = [image_at(k, images=7, seed=0) for k in range(50)]
    assert [image_at(k, images=7, seed=0) for k in reversed(range(50))] == order[::-1]


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_every_batch(processes: int) -> None:
    batch, start = 8, 3
    parts = [
        itertools.islice(positions(start, batch, rank=rank, processes=processes), batch)
        for rank in range(processes)
    ]
    per_rank = [list(part) for part in parts]
    first = [k for part in per_rank for k in part[: batch // processes]]
    assert sorted(first) == list(range(start * batch, (start + 1) * batch))


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_random_numbers_follow_from_their_parts_and_leave_no_trace() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    plain = [draw() for _ in range(2)]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    first = draw()
    with random_numbers("sample", 0, 17):
        inside = draw()
    assert [first, draw()] == plain
    with random_numbers("sample", 0, 17):
        assert draw() == inside
    with random_numbers("sample", 0, 18):
        assert draw() != inside


def test_generators_are_restored_after_an_error() -> None:
    np.random.seed(1)
    wanted = np.random.rand()
    np.random.seed(1)
    with pytest.raises(KeyError), random_numbers(0):
        raise KeyError
    assert np.random.rand() == wanted


def test_derived_seeds_tell_parts_apart() -> None:
    seeds = {derived_seed(*parts) for parts in [(1, 23), (12, 3), ("1", "2", "3"), (123,), (3, 21)]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_what_is_held_out_depends_on_the_id_alone() -> None:
    names = [f"image_{i}" for i in range(4000)]
    fifth = {name for name in names if is_held_out(name, 0.2)}
    assert len(fifth) / len(names) == pytest.approx(0.2, abs=0.02)
    assert fifth < {name for name in names if is_held_out(name, 0.3)}
    assert not any(is_held_out(name, 0.0) for name in names)
    assert is_held_out(7, 0.2) == is_held_out("7", 0.2)
