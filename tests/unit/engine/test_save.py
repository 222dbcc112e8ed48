import os
import signal
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.utils.events import CommonMetricPrinter, EventWriter

from sora_det.engine.checkpoint import Checkpoints
from sora_det.engine.hooks import ShowMetrics
from sora_det.engine.save import SaveCheckpoints
from sora_det.engine.trainer import Trainer
from tests.tools.mean_square import MeanSquare, batches

TERM, INTERRUPT = signal.SIGTERM, signal.SIGINT


class Send(HookBase):
    """Sends signals to this process before an iteration."""

    def __init__(self, at: int, *numbers: signal.Signals) -> None:
        self.at, self.numbers = at, numbers

    def before_step(self) -> None:
        if self.trainer.iter == self.at:
            for number in self.numbers:
                os.kill(os.getpid(), number)


def train(folder: Path, *hooks: HookBase) -> Trainer:
    """Train five steps, with a checkpoint of the last alone."""
    model = MeanSquare()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, lambda start: batches(5, 2), optimizer)
    saving = SaveCheckpoints(Checkpoints(folder), lambda _: {"any": "state"}, period=100)
    trainer.register_hooks([*hooks, saving])
    trainer.train(0, 5)
    return trainer


@pytest.mark.parametrize(
    "numbers", [(TERM,), (INTERRUPT,), (signal.SIGUSR2,), (TERM, TERM, TERM), (INTERRUPT, TERM)]
)
def test_stops_after_the_step_with_a_checkpoint(
    tmp_path: Path, numbers: tuple[signal.Signals, ...]
) -> None:
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(SystemExit) as ended:
        train(tmp_path, Send(2, *numbers))
    assert ended.value.code == 75
    assert [file.name for file in Checkpoints(tmp_path).files()] == ["model_0000002.pth"]
    assert [signal.getsignal(number) for number in numbers] == before


def test_stops_after_the_last_step(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        train(tmp_path, Send(4, TERM))
    assert ended.value.code == 75
    assert [file.name for file in Checkpoints(tmp_path).files()] == ["model_final.pth"]


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Send(2, INTERRUPT, INTERRUPT))
    assert not Checkpoints(tmp_path).files()


def test_stops_in_the_first_step_when_no_time_has_been_measured(tmp_path: Path) -> None:
    """Detectron2's printer divides by no steps if it is asked twice there."""
    shown = ShowMetrics([CommonMetricPrinter(5)], 1)
    with pytest.raises(SystemExit) as ended:
        train(tmp_path, Send(0, TERM), shown)
    assert ended.value.code == 75
    assert shown.writers


class Failing(EventWriter):
    """A display whose disk is full."""

    def write(self) -> None:
        raise OSError("No space left\x1b")


def test_a_display_that_fails_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, Send(9), ShowMetrics([Failing(), CommonMetricPrinter(5)], 1))
    (found,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert found == "Failing is given up: No space left\\x1b"
    assert [file.name for file in Checkpoints(tmp_path).files()] == ["model_final.pth"]


def test_without_a_signal_it_ends_by_itself(tmp_path: Path) -> None:
    assert not train(tmp_path, Send(9, TERM)).stop_agreed
    assert [file.name for file in Checkpoints(tmp_path).files()] == ["model_final.pth"]
