"""scripts/benchmark.py measures what it says, in small; its figures are no business of a test."""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scripts.benchmarks.adapter_io import adapter_io
from scripts.benchmarks.codino import codino
from scripts.benchmarks.decompose import decompose
from scripts.benchmarks.index import index
from scripts.benchmarks.inference import inference
from scripts.benchmarks.layer import layer
from scripts.benchmarks.loader import loader
from scripts.benchmarks.memory import kept_bytes, peak_bytes
from scripts.benchmarks.results import Result
from scripts.benchmarks.timing import Ratio, Timing, in_turns, ratio
from scripts.benchmarks.train import CASES, Case, flops_ratio, train
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


def test_kept_bytes_count_memory_once() -> None:
    x = torch.randn(5, 8, requires_grad=True)
    net = torch.nn.Linear(8, 4)
    assert kept_bytes(net, lambda: net(x)) == 5 * 8 * 4
    assert kept_bytes(net, lambda: x[:2].square().sum() + x[2:].square().sum()) == 5 * 8 * 4
    with torch.no_grad():
        assert kept_bytes(net, lambda: net(x)) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
def test_peak_bytes_see_what_is_freed_again() -> None:
    count = 50_000_000
    peak = peak_bytes(lambda: torch.ones(count, dtype=torch.uint8).max())
    assert peak is not None
    assert 0.9 * count < peak < 2 * count


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_layer() -> None:
    result = layer(1, widths=(16,), tokens=(1024,), names=("qkv", "fc1"))
    precisions = 1 if torch.cuda.is_available() else 2
    assert len(result.timings) == precisions * 2 * 6
    assert all(timing.median > 0 for timing in result.timings)
    for name, value in result.facts.items():
        if "difference" in name:
            assert float(value) < (1e-5 if "fp32" in name else 0.05), name
    # 6 products with a thin matrix of 16 columns for 2 with the whole one, q, k and v apart
    assert facts(result, "16 fc1, 1,024 tokens, bf16: floor") == [
        f"{1 + 6 * 16 * 5 / 4 / 64:.3f} of frozen"
    ]
    assert "16 qkv, 1,024 tokens, bf16: ours / floor = " in result.to_text()


TINY = Case("tiny", "vit_tiny_patch16_224", depth=3, side=32, precision="bf16")


@pytest.mark.usefixtures("one_thread")
def test_train() -> None:
    result = train(1, cases=[TINY], ways=["full", "peft", "ours", "ours recomputed"])
    names = [timing.name.removeprefix(f"{TINY}: ") for timing in result.timings]
    assert names == ["full", "peft", "ours", "ours recomputed", "AdamW alone, full",
                     "AdamW alone, ours"]  # fmt: skip
    assert all(timing.median > 0 for timing in result.timings)
    assert [ratio.to for ratio in result.ratios] == [
        "full", f"{flops_ratio(TINY):.3f} full", "peft", "ours"
    ]  # fmt: skip
    full, ours = (
        float(facts(result, f"{TINY}: kept for the backward pass, {name}")[0].split()[0])
        for name in ("full", "ours")
    )
    assert 0 < ours < full


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_train_compiled() -> None:
    result = train(1, cases=[TINY])
    assert "ours compiled / ours = " in result.to_text()


def test_flops_ratio() -> None:
    found = {(case.name, case.side): flops_ratio(case) for case in CASES}
    assert found["ViT-B", 512] == pytest.approx(0.607, abs=1e-3)
    assert found["ViT-B", 1024] == pytest.approx(0.667, abs=1e-3)


def test_codino() -> None:
    result = codino(1, images=1, side=64, encoded=64)
    shown = result.to_text()
    for pair in ("Co-DINO / Faster R-CNN", "encoder recomputed / encoder"):
        assert f"{pair} = " in shown
    assert all(timing.median > 0 for timing in result.timings)
    assert len(facts(result, "highest memory of a step")) == len(result.timings) == 5


def test_index() -> None:
    result = index(1, images=60)
    assert facts(result, "images whose boxes differ from Detectron2's") == ["0"]
    assert [timing.name for timing in result.timings][:3] == [
        "load_voc_instances", "ours, cold", "ours, warm"
    ]  # fmt: skip
    sizes = [int(value.split()[0]) for value in facts(result, "memory of a record, ")]
    assert 0 < sizes[0] < sizes[1]


@pytest.mark.usefixtures("one_thread")
def test_loader() -> None:
    result = loader(1, images=2, draws=2, size=(160, 90))
    assert [timing.name for timing in result.timings] == ["DatasetMapper", "ours", "decoding alone"]
    assert facts(result, "largest difference of a box, in pixels") == ["0"]
    (mean,) = facts(result, "mean difference")
    assert float(mean) < 0.5


@pytest.mark.usefixtures("one_thread")
def test_inference() -> None:
    tiny = replace(TINY, precision="fp32")
    result = inference(1, cases=[tiny])
    assert len(result.timings) == 6
    assert all(timing.median > 0 for timing in result.timings)
    assert {ratio.to for ratio in result.ratios} == {"plain"}
    assert facts(result, f"{tiny}: modules of this package left") == ["0"]
    (difference,) = facts(result, f"{tiny}: largest difference")
    assert 0 < float(difference) < 1e-5


@pytest.mark.parametrize("arguments", [("layers",), ("decompose", "--repetitions", "0")])
def test_bad_arguments(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ended = Started(ROOT / "scripts" / "benchmark.py", *arguments, folder=tmp_path / "run").wait()
    assert ended.code == 2
    assert "error:" in ended.err
