"""Matrices add up to blocks: nothing of a change is lost or counted twice."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sora_det.adapt.movement import movement
from sora_det.engine.study.configure import Key
from sora_det.engine.study.explain import by_block, explain
from sora_det.engine.study.plan import Run
from sora_det.evaluation.explained import Explained

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


def study_of(key: Key) -> Any:
    """A study with one final run, whose checkpoint is not here."""
    run = Run("minor", "final", 1e-3, 0)
    configs = SimpleNamespace(folder=lambda run: Path("nowhere"), work=Path("nowhere"))
    study = SimpleNamespace(methods=[SimpleNamespace(name="minor")])
    found = {run: SimpleNamespace(diverged=False, key=key)}
    return SimpleNamespace(found=found, study=study, configs=configs)


def test_what_is_known_holds_for_the_same_training_alone(caplog: pytest.LogCaptureFixture) -> None:
    key = Key("config", "data", "weights")
    known = [Explained("SoRA", 0, key.digest, 20, (), ())]
    (one,) = explain(study_of(key), known)
    assert one.method == "minor"  # as this study calls it
    assert not caplog.records
    for other in (
        Key("x", "data", "weights"),
        Key("config", "x", "weights"),
        Key("config", "data", ""),
    ):
        assert not list(explain(study_of(other), known))
    assert "1 final runs have left no model_final.pth below nowhere" in caplog.text
    assert not list(explain(study_of(key), known, max_images=50))
