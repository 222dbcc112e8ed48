"""Matrices add up to blocks: nothing of a change is lost or counted twice."""

import math

import pytest
import torch

from sora_det.adapt.movement import movement
from sora_det.engine.study.explain import by_block

RANK = 3


def moved(name: str, change: torch.Tensor | None = None) -> tuple[str, torch.Tensor, torch.Tensor]:
    torch.manual_seed(len(name))
    weight = torch.randn(8, 12)
    return name, weight, torch.zeros(8, 12) if change is None else change


def test_blocks_hold_the_change_of_their_matrices() -> None:
    u, _, vh = torch.linalg.svd(moved("blocks.1.fc1")[1])
    in_weakest = u[:, -1:] @ torch.randn(1, 12)  # left side alone
    in_strongest = 2 * torch.outer(u[:, 0], vh[0])
    parts = [
        moved("blocks.0.attn.q"),
        moved("blocks.1.fc1", in_weakest),
        moved("blocks.1.fc2", in_strongest),
        moved("head", torch.ones(8, 12)),
    ]
    parts[2] = (parts[2][0], parts[1][1], in_strongest)
    found = by_block([movement(n, w, c, rank=RANK) for n, w, c in parts], depth=3)
    still, block, empty = found
    assert (still.change, still.minor, still.relative) == (0, None, 0)
    assert (empty.norm, empty.change, empty.relative) == (0, 0, 0)
    energy = float(in_weakest.square().sum()), 4.0
    assert block.change == pytest.approx(math.sqrt(sum(energy)), rel=1e-6)
    assert block.norm == pytest.approx(math.sqrt(2) * float(parts[1][1].norm()), rel=1e-6)
    assert block.minor is not None
    assert block.minor == pytest.approx(energy[0] / sum(energy), rel=1e-5)
    chance = RANK / 8 + RANK / 12 - RANK * RANK / 96
    assert block.chance == pytest.approx(chance)
