"""scripts/gpu_report.py in small, on a CPU; a table of a GPU is no business of a test."""

import ast
import json
from pathlib import Path

import pytest
import torch

from scripts import gpu_report
from scripts.benchmarks.flops import Stack
from scripts.gpu_report import WAYS, Cell, Work, cells_of, step_flops, to_markdown
from tests.tools.process import ROOT, Started

SCRIPT = ROOT / "scripts" / "gpu_report.py"
TINY = Work("vit_tiny_patch16_224", 3, 32, (1, 2), 1, "cpu", "eager")


def test_smoke(tmp_path: Path) -> None:
    ended = Started(
        SCRIPT, "--output", tmp_path / "out", "--smoke", folder=tmp_path / "says"
    ).wait()
    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    cells = [(cell["way"], cell["compiled"], cell["batch"]) for cell in report["cells"]]
    assert cells == [(way, c, batch) for way in WAYS for c in (False, True) for batch in (1, 2)]
    assert all(cell["images_per_second"] > 0 for cell in report["cells"])
    table = (tmp_path / "out" / "report.md").read_text().splitlines()
    assert len(table) == 2 + 2 + len(cells)
    assert ended.out.splitlines() == table[4:]


def test_a_failure_is_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = gpu_report.measure

    def short_of_memory(*args: object, compiled: bool, batch: int) -> Cell:
        if batch == 2 and not compiled:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried | to allocate")
        return measure(*args, compiled=compiled, batch=batch)  # type: ignore[arg-type]

    monkeypatch.setattr(gpu_report, "measure", short_of_memory)
    cells: list[Cell] = []
    cells_of("full", TINY, cells.append)
    assert [cell.failure for cell in cells] == ["", "OutOfMemoryError: CUDA out of memory.", "", ""]
    assert "| full | no | 2 | OutOfMemoryError: CUDA out of memory. |  |  |  |" in to_markdown(
        TINY, {"device": "one", "peak TFLOPS": 1e-9}, cells
    )


def test_flops_of_the_ways() -> None:
    stack = Stack(1024, 24, 4096, 16)
    found = {way: step_flops(way, stack) / stack.full() for way in WAYS}
    assert found["frozen"] == pytest.approx(1 / 3, abs=1e-3)
    assert found["full"] == 1
    assert found["frozen"] < found["peft-style LoRA"] < found["SoRA"] < 0.7


def test_needs_neither_detectron2_nor_peft() -> None:
    tree = ast.parse(SCRIPT.read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    other = {name for name in names if name.partition(".")[0] in ("scripts", "sora_det")}
    assert other == {"scripts.benchmarks.flops", "sora_det.adapt"}
    assert not names & {"detectron2", "peft"}
