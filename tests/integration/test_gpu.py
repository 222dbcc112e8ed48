"""On a GPU: mixed precision with loss scaling, resuming, the same scores again."""

from pathlib import Path

import pytest
import torch

from sora_det.engine.train import fit, score
from tests.tools.tiny_run import tiny

pytestmark = pytest.mark.gpu


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_train_resume_and_score(toy: Path, tmp_path: Path, precision: str) -> None:
    settings = ("train.device=auto", f"train.precision={precision}", "train.checkpoint_period=2")
    fit(tiny(toy, tmp_path, *settings, "train.max_iter=2"))
    table = fit(tiny(toy, tmp_path, *settings, "train.max_iter=4"), resume=True)
    assert table.run.iteration == 4
    again = score(tiny(toy, tmp_path, *settings))
    assert [s.ap50 for s in again.scores] == pytest.approx([s.ap50 for s in table.scores], abs=0.1)
