"""The suite `checkpoint` in small."""

from pathlib import Path

from scripts.benchmarks.checkpoint import checkpoint
from tests.tools.tiny_run import OVERRIDES


def test_checkpoints_of_adapters_are_smaller(toy: Path) -> None:
    overrides = [*OVERRIDES, f"benchmark.file={toy}"]
    result = checkpoint(1, config="toy_sora_frcnn", overrides=overrides)
    assert [timing.name for timing in result.timings] == ["ours", "DetectionCheckpointer"]
    ours, theirs = (
        float(value.removesuffix(" MB"))
        for name, value in result.facts.items()
        if name.startswith("size")
    )
    assert 0 < ours < theirs
    assert "parameters are trained" in result.work
