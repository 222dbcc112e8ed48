"""Two and four processes on a CPU train and score what one would."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from sora_det.evaluation import DomainTable
from tests.ddp.work import IMAGES, SIZES, STEPS, steps, table, untrained, work
from tests.tools.mean_square import MeanSquare, batches
from tests.tools.tiny_heads import HEADS

SECONDS = 240  # until a hanging test is given up
# The processes sum the same products in another order. A sum of n terms is off by at most n eps
# of the largest one, eps = 6e-8: 5e-7 for 8 images, and three steps with momentum add up to 3e-6.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
Reports = dict[int, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def found(toy: Path, folder: Path) -> Reports:
    """What four processes report, and then two of them."""
    context = mp.start_processes(work, (folder, toy), nprocs=4, join=False)
    end = time.monotonic() + SECONDS
    while not context.join(timeout=5):
        if time.monotonic() > end:
            for process in context.processes:
                process.kill()
            pytest.fail(f"no end after {SECONDS} s")
    return {n: [torch.load(folder / f"found {n} {rank}.pth") for rank in range(n)] for n in (2, 4)}


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_equal_those_of_one_process(found: Reports, processes: int, accumulate: int) -> None:
    alone = steps(MeanSquare(), batches(STEPS, IMAGES))
    assert len(set(alone["losses"])) == STEPS
    for report in found[processes]:
        together = report[f"accumulate {accumulate}"]
        for name in ("gradients", "weights"):
            torch.testing.assert_close(together[name], alone[name], **CLOSE)
        for name in ("losses", "norms"):  # the mean over all processes
            assert together[name] == pytest.approx(alone[name], rel=1e-5)


@pytest.mark.parametrize("processes", [2, 4])
def test_loss_that_is_not_finite_ends_all(found: Reports, processes: int) -> None:
    for report in found[processes]:
        assert report["error"].startswith("the loss is not finite at iteration 1: ")


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("size", SIZES)
def test_every_image_is_scored_once(found: Reports, processes: int, size: int) -> None:
    images = [image for report in found[processes] for image in report["images"][size]]
    assert sorted(images) == list(range(size))


@pytest.mark.parametrize("processes", [2, 4])
def test_table_equals_that_of_one_process(found: Reports, processes: int, tmp_path: Path) -> None:
    alone = table(tmp_path)
    assert [score.images for score in alone.scores] == [7, 5, 1]
    assert 0 < alone.scores[0].ap50 < 100
    for report in found[processes]:
        assert DomainTable.from_json(report["table"]).scores == alone.scores


def test_untrained_detector_is_that_of_the_first_process(
    found: Reports, toy: Path, tmp_path: Path
) -> None:
    alone = untrained(toy, tmp_path, seed=0)
    assert alone.scores[0].coco_ap, "nothing found: the comparison shows nothing"
    for report in found[2]:
        assert DomainTable.from_json(report["untrained"]).scores == alone.scores


@pytest.mark.parametrize("head", HEADS)
def test_only_what_is_trained_is_exchanged(found: Reports, head: str) -> None:
    """Four bytes a trained parameter, and as many a loss and for whether to stop; no buffers."""
    for report in found[2]:
        step = report["exchange"][head]
        assert step["frozen"] > 100_000
        assert step["exchanged"] == {"gloo:all_reduce": step["trained"] + step["losses"] + 1}
