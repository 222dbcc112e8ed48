"""scripts/benchmark.py measures what it says, in small; its figures are no business of a test."""

import json
import math
from pathlib import Path

import pytest

from scripts.benchmarks.adapter_io import adapter_io
from scripts.benchmarks.decompose import decompose
from scripts.benchmarks.results import Result
from scripts.benchmarks.timing import Ratio, Timing, in_turns, ratio
from tests.tools.process import ROOT, Started


def test_turns_alternate_and_the_first_does_not_count() -> None:
    called: list[str] = []
    tasks = {"a": lambda: called.append("a"), "b": lambda: called.append("b")}
    timings = in_turns(tasks, 3, before=lambda: called.append("-"))
    assert "".join(called) == "-a-b" * 4
    assert [(t.name, len(t.seconds)) for t in timings] == [("a", 3), ("b", 3)]


def test_no_repetition() -> None:
    with pytest.raises(ValueError, match="at least 1 repetition is needed, got 0"):
        in_turns({}, 0)


def test_ratio_pairs_what_was_measured_together() -> None:
    one, two = Timing("one", (1.0, 6.0, 2.0)), Timing("two", (2.0, 4.0, 2.0))
    assert ratio(one, two) == Ratio("one", "two", 1.0, 0.5, 1.5)


def facts(result: Result, start: str) -> list[str]:
    return [value for name, value in result.facts.items() if name.startswith(start)]


def test_decompose() -> None:
    result = decompose(1, width=64, blocks=1)
    assert result.work.startswith("6 float32 matrices of a ViT with width 64")
    (ours,) = facts(result, "largest sine to the float64 SVD, split_minor")
    assert float(ours) < 1e-5
    shown = result.to_text()
    assert "split_minor / torch.linalg.svd = " in shown
    assert "threads" in shown


def test_adapter_io() -> None:
    result = adapter_io(1, network="vit_tiny_patch16_224")
    (difference,) = facts(result, "largest difference")
    assert float(difference) < 1e-5
    sizes = {name: float(value.removesuffix(" MB")) for name, value in result.facts.items()
             if name.startswith("size")}  # fmt: skip
    assert math.isclose(
        sizes["size of adapter, bf16"], sizes["size of adapter, fp32"] / 2, rel_tol=0.1
    )
    written = json.loads(result.to_json())
    assert written["suite"] == "adapter-io"
    assert all(len(timing["seconds"]) == 1 for timing in written["timings"])


@pytest.mark.parametrize("arguments", [("layers",), ("decompose", "--repetitions", "0")])
def test_bad_arguments(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ended = Started(ROOT / "scripts" / "benchmark.py", *arguments, folder=tmp_path / "run").wait()
    assert ended.code == 2
    assert "error:" in ended.err
