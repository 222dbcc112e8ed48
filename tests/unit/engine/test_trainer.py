import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import HookBase
from omegaconf import DictConfig
from torch import Tensor, nn

from sora_det.data import register
from sora_det.engine.hooks import ProgressLine
from sora_det.engine.trainer import PRECISIONS, Trainer
from tests.tools.mean_square import Batch, MeanSquare, batches
from tests.tools.tiny_run import ROOT, tiny


def halves(whole: Sequence[Batch]) -> list[Batch]:
    return [half for b in whole for half in (b[: len(b) // 2], b[len(b) // 2 :])]


def train(model: nn.Module, loader: Iterable[Batch], steps: int, **options: Any) -> Trainer:
    optimizer = torch.optim.SGD(model.parameters(), lr=options.pop("lr", 0.1))
    trainer = Trainer(model, lambda start: loader, optimizer, **options)
    trainer.train(0, steps)
    return trainer


def vector(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def test_steps_by_hand() -> None:
    data, model, twin = batches(3, 4), MeanSquare(), MeanSquare()
    train(model, data, 3)
    for batch in data:
        grads = torch.autograd.grad(twin(batch)["loss"], list(twin.parameters()))
        with torch.no_grad():
            for p, g in zip(twin.parameters(), grads, strict=True):
                p -= 0.1 * g
    torch.testing.assert_close(vector(model), vector(twin))


def test_two_half_batches_make_one_step() -> None:
    data, whole, parts = batches(3, 4), MeanSquare(), MeanSquare()
    by_whole = train(whole, data, 3)
    by_parts = train(parts, halves(data), 3, accumulate=2)
    torch.testing.assert_close(vector(parts), vector(whole))
    for name in ("loss", "total_loss", "grad_norm"):
        mean, want = (t.storage.history(name).values() for t in (by_parts, by_whole))
        assert [v for v, _ in mean] == pytest.approx([v for v, _ in want])
    assert not torch.equal(vector(whole), vector(MeanSquare()))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_clipping_bounds_the_step(accumulate: int) -> None:
    model = MeanSquare()
    start = vector(model)
    data = batches(1, 4, factor=100.0)
    trainer = train(model, data * accumulate, 1, lr=1.0, clip_norm=0.5, accumulate=accumulate)
    assert (vector(model) - start).norm().item() == pytest.approx(0.5, rel=1e-4)
    assert trainer.storage.latest()["grad_norm"][0] > 1000  # recorded as it was


def test_small_gradients_are_not_clipped() -> None:
    clipped, free = MeanSquare(), MeanSquare()
    train(clipped, batches(1, 4), 1, clip_norm=1e3)
    train(free, batches(1, 4), 1, clip_norm=None)
    assert torch.equal(vector(clipped), vector(free))


def test_loss_that_is_not_finite() -> None:
    data = batches(3, 2)
    data[2][1]["y"].fill_(math.nan)
    model = MeanSquare()
    with pytest.raises(FloatingPointError, match=r"not finite at iteration 2: \{'loss': nan\}"):
        train(model, data, 3)
    assert torch.isfinite(vector(model)).all()  # the step was not taken


def test_overflow_of_the_scaled_loss_skips_the_step() -> None:
    model = MeanSquare()
    start = vector(model)
    trainer = train(model, batches(1, 2, factor=200.0), 1, precision="float16")
    assert torch.equal(vector(model), start)
    assert trainer.scaler.get_scale() == 2.0**15


def test_state_holds_optimizer_and_scaler() -> None:
    first = train(MeanSquare(), batches(1, 2, factor=200.0), 1, precision="float16")
    state = first.state_dict()
    assert state["scaler"]["scale"] == 2.0**15
    second = train(MeanSquare(), batches(1, 2), 0, precision="float16", lr=0.5)
    second.load_state_dict(state)
    assert second.scaler.get_scale() == 2.0**15
    assert second.optimizer.param_groups[0]["lr"] == 0.1


def test_gradient_that_is_not_finite_never_reaches_the_weights() -> None:
    model = MeanSquare()
    next(model.parameters()).register_hook(lambda gradient: gradient * math.inf)
    before = vector(model)
    with pytest.raises(FloatingPointError, match="gradient is not finite at iteration 0"):
        train(model, batches(1, 4), 1, clip_norm=1.0)
    torch.testing.assert_close(vector(model), before, rtol=0, atol=0)


def test_asks_for_the_batches_that_come_next() -> None:
    asked: list[int] = []
    model, data = MeanSquare(), batches(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, lambda start: asked.append(start) or data, optimizer, accumulate=2)
    trainer.train(3, 5)
    assert asked == [6]


class Failing(HookBase):
    def before_train(self) -> None:
        raise ValueError("not this way")


def test_progress_line_does_not_hide_why_training_cannot_begin() -> None:
    model = MeanSquare()
    trainer = Trainer(model, lambda start: [], torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.register_hooks([Failing(), ProgressLine()])
    with pytest.raises(ValueError, match="not this way"):
        trainer.train(0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "half"}, r"precision must be one of .*'float16'.*, got 'half'"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(MeanSquare(), [], 0, **options)


def detector(toy: Path, tmp_path: Path, head: str) -> DictConfig:
    cfg = tiny(toy, tmp_path)
    if head == "retinanet":
        file = ROOT / "configs" / "common" / "heads" / "retinanet.py"
        cfg.model = LazyConfig.load(str(file), "model")
        cfg.model.head.conv_dims = [16]
    register(instantiate(cfg.benchmark))
    return cfg


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("head", ["faster_rcnn", "retinanet"])
def test_detectors_train_in_every_precision(
    toy: Path, tmp_path: Path, head: str, precision: str
) -> None:
    cfg = detector(toy, tmp_path, head)
    model = instantiate(cfg.model)
    computed: list[torch.dtype] = []
    model.backbone.net.blocks[5].mlp.fc1.register_forward_hook(
        lambda _module, _inputs, output: computed.append(output.dtype)
    )
    cfg.optimizer.params.model = model
    trainer = Trainer(
        model,
        lambda start: instantiate(cfg.dataloader.train),
        instantiate(cfg.optimizer),
        precision=precision,
        clip_norm=35.0,
    )
    before = [p.detach().clone() for p in trainer.parameters]
    trainer.train(0, 1)
    assert computed == [PRECISIONS[precision] or torch.float32]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(torch.isfinite(p).all() for p in trainer.parameters)
    assert all(not torch.equal(b, p) for b, p in zip(before, trainer.parameters, strict=True))


def test_a_bad_step_changes_nothing_and_is_written_down(tmp_path: Path) -> None:
    data = batches(4, 2)
    for number, image in enumerate(data[2]):
        image |= {"image_id": number, "file_name": f"{number}.jpg"}
    data[2][1]["y"].fill_(math.nan)
    model, twin = MeanSquare(), MeanSquare()
    trainer = train(model, data, 4, max_bad_steps=1, folder=tmp_path)
    train(twin, [data[0], data[1], data[3]], 3)
    assert torch.equal(vector(model), vector(twin))
    (row,) = [json.loads(line) for line in (tmp_path / "bad_steps.jsonl").read_text().splitlines()]
    assert (row["iteration"], row["not_finite"], row["losses"]) == (2, "loss", {"loss": "nan"})
    assert row["images"] == [
        {"image_id": 0, "file_name": "0.jpg"},
        {"image_id": 1, "file_name": "1.jpg"},
    ]
    assert trainer.bad_steps == 0  # a good one followed
    losses = trainer.storage.history("total_loss").values()
    assert [iteration for _, iteration in losses] == [0, 1, 3]


def test_too_many_bad_steps_in_a_row(tmp_path: Path) -> None:
    data = batches(6, 2)
    for batch in data[2:5]:
        batch[0]["y"].fill_(math.inf)
    model = MeanSquare()
    with pytest.raises(
        FloatingPointError, match=r"at iteration 4: .* 3 steps in a row .*bad_steps"
    ):
        train(model, data, 6, max_bad_steps=2, folder=tmp_path)
    assert len((tmp_path / "bad_steps.jsonl").read_text().splitlines()) == 3
    assert torch.isfinite(vector(model)).all()
    train(MeanSquare(), data, 6, max_bad_steps=3)


def test_bad_steps_that_are_repeated_are_listed_once(tmp_path: Path) -> None:
    data = batches(4, 2)
    for number in (0, 2):
        data[number][0]["y"].fill_(math.nan)
    train(MeanSquare(), data, 4, max_bad_steps=1, folder=tmp_path)
    listed = (tmp_path / "bad_steps.jsonl").read_text()
    model = MeanSquare()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    again = Trainer(model, lambda start: data[start:], optimizer, max_bad_steps=1, folder=tmp_path)
    again.train(1, 4)  # resumed from a checkpoint of the first iteration
    assert (tmp_path / "bad_steps.jsonl").read_text() == listed
    assert len(listed.splitlines()) == 2


def test_a_gradient_that_no_scale_makes_finite_stops_float16_too() -> None:
    model = MeanSquare()
    next(model.parameters()).register_hook(lambda gradient: gradient * math.nan)
    before = vector(model)
    with pytest.raises(FloatingPointError, match="gradient is not finite at iteration 18"):
        train(model, batches(40, 2), 40, precision="float16", max_bad_steps=2)
    assert torch.equal(vector(model), before)  # 2^16 is halved 16 times, and 3 steps are bad


def test_random_numbers_follow_from_seed_and_iteration() -> None:
    def draws(start: int, seed: int) -> list[float]:
        model, found = MeanSquare(), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trainer = Trainer(model, lambda _: batches(4, 2)[start:], optimizer, seed=seed)
        model.register_forward_hook(lambda *_: found.append(float(torch.rand(()))))
        torch.rand(start + seed)  # whatever was drawn before
        trainer.train(start, 4)
        return found

    assert draws(2, 0) == draws(0, 0)[2:]
    assert len(set(draws(0, 0))) == 4
    assert draws(0, 0) != draws(0, 1)
