import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.solver import LRMultiplier
from torch import nn

from sora_det.engine.hooks import AnnealWeightDecay, cosine

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data" / "parity"


def trainer_with(groups: list[dict[str, object]], *, max_iter: int) -> SimpleNamespace:
    for group in groups:
        group["initial_weight_decay"] = group["weight_decay"]
    return SimpleNamespace(
        optimizer=SimpleNamespace(param_groups=groups), iter=0, max_iter=max_iter
    )


def attach(hook: AnnealWeightDecay, trainer: SimpleNamespace) -> AnnealWeightDecay:
    hook.trainer = trainer
    hook.before_train()
    return hook


def test_cosine_by_hand() -> None:
    assert cosine(0.01, 1e-5, 0.0) == pytest.approx(0.01)
    assert cosine(0.01, 1e-5, 0.5) == pytest.approx((0.01 + 1e-5) / 2)
    assert cosine(0.01, 1e-5, 1.0) == pytest.approx(1e-5)


def test_only_the_adapters_are_annealed() -> None:
    roles = ["adapter", "backbone_bias", "head", "no_decay"]
    decays = [0.01, 0.01, 0.05, 0.0]
    groups = [{"role": r, "weight_decay": d} for r, d in zip(roles, decays, strict=True)]
    trainer = trainer_with(groups, max_iter=100)
    hook = attach(AnnealWeightDecay(end=1e-5), trainer)
    trainer.iter = 75
    hook.before_step()
    assert [g["weight_decay"] for g in groups] == [cosine(0.01, 1e-5, 0.75), 0.01, 0.05, 0.0]


def test_decay_is_a_function_of_the_iteration() -> None:
    trainer = trainer_with([{"role": "adapter", "weight_decay": 0.01}], max_iter=10)
    hook = attach(AnnealWeightDecay(), trainer)
    for iteration in (7, 3, 3):
        trainer.iter = iteration
        hook.before_step()
    assert trainer.optimizer.param_groups[0]["weight_decay"] == cosine(0.01, 1e-5, 0.3)


def test_unknown_role() -> None:
    trainer = trainer_with([{"role": "head", "weight_decay": 0.01}], max_iter=10)
    with pytest.raises(ValueError, match=r"no parameter group has role 'adapter', only \['head'\]"):
        attach(AnnealWeightDecay(), trainer)


def test_trajectory_of_the_reference() -> None:
    """Learning rate and weight decay at each recorded iteration, with every group annealed."""
    reference = json.loads((DATA / "optim_schedule.json").read_text())
    cfg = LazyConfig.load(str(ROOT / "configs" / "common" / "schedule.py"))
    names = list(reference["initial"])
    groups = [
        {
            "params": [nn.Parameter(torch.zeros(1))],
            "lr": reference["initial"][name]["base_lr"],
            "weight_decay": reference["initial"][name]["weight_decay"],
        }
        for name in names
    ]
    for group in groups:
        group["initial_weight_decay"] = group["weight_decay"]
    optimizer = torch.optim.AdamW(groups, lr=2e-4)
    multiplier = instantiate(cfg.lr_multiplier)
    for text, values in reference["trajectory"].items():
        iteration = int(text)
        trainer = SimpleNamespace(optimizer=optimizer, iter=iteration, max_iter=40000)
        attach(AnnealWeightDecay(end=1e-5, roles=None), trainer).before_step()
        for group, name in zip(optimizer.param_groups, names, strict=True):
            group["initial_lr"] = reference["initial"][name]["base_lr"]
        LRMultiplier(optimizer, multiplier, 40000, last_iter=iteration - 1)
        for group, name in zip(optimizer.param_groups, names, strict=True):
            lr, decay = values[name]
            assert group["lr"] == pytest.approx(lr, rel=1e-6), (name, iteration)
            assert group["weight_decay"] == pytest.approx(decay, rel=1e-6, abs=1e-12), (name, text)
