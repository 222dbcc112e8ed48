"""Runs side by side, as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sora_det.evaluation import DomainTable
from tests.tools.process import ROOT, Ended, Started
from tests.tools.results import table


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ended]:
    def start(*arguments: str | Path) -> Ended:
        folder = tmp_path / f"output of {len(list(tmp_path.iterdir()))}"
        script = ROOT / "scripts" / "compare_results.py"
        return Started(script, *arguments, folder=folder).wait()

    return start


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    tables = [
        table(60, 40, 20, method="SoRA(rank=16)", seed=0),
        table(64, 44, 20, method="SoRA(rank=16)", seed=1),
        table(80, 30, 10, method="Full()", seed=0),
    ]
    for number, one in enumerate(tables):
        one.write(tmp_path / f"run{number}")
    return [tmp_path / f"run{number}" for number in range(3)]


def test_seeds_become_a_mean(run: Callable[..., Ended], runs: list[Path]) -> None:
    ended = run(*runs)
    assert ended.code == 0, ended.err
    lines = [line.split("  ") for line in ended.out.splitlines()]
    rows = {line[0]: [cell.strip() for cell in line[1:] if cell.strip()] for line in lines}
    assert rows["SoRA(rank=16)"][:2] == ["2", "62.0 ± 2.8"]
    assert rows["Full()"][:2] == ["1", "80.0"]


def test_names_metric_and_file(run: Callable[..., Ended], runs: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "all.json"
    ended = run(f"A={runs[0]}", f"A={runs[1] / 'results.json'}", f"B={runs[2]}",
                "--metric", "coco_ap", "--format", "json", "--output", file)  # fmt: skip
    assert (ended.code, ended.out) == (0, ""), ended.err
    document = json.loads(file.read_text())
    assert [method["name"] for method in document["methods"]] == ["A", "B"]
    assert document["methods"][0]["values"]["clear"]["mean"] == 31.0


def test_other_protocols_are_refused(run: Callable[..., Ended], runs: list[Path]) -> None:
    file = runs[2] / "results.json"
    document = json.loads(file.read_text())
    document["protocol"]["interpolation"] = "area"
    file.write_text(json.dumps(document))
    refused = run(*runs)
    assert refused.code == 1
    assert "different protocols: interpolation 11point and area" in refused.err
    assert "Traceback" not in refused.err
    forced = run(*runs, "--force")
    assert forced.code == 0
    assert "PROTOCOLS DIFFER" in forced.out
    assert "PROTOCOLS DIFFER" in run(*runs, "--force", "--format", "csv").err


def test_bad_runs(run: Callable[..., Ended], runs: list[Path], tmp_path: Path) -> None:
    for arguments, said in (
        ([runs[0], runs[0]], "a run is given twice"),
        ([tmp_path / "none"], "holds no results.json"),
        ([f"x={runs[0]}", f"x={runs[2]}"], "several runs of seed 0"),
    ):
        ended = run(*arguments)
        assert ended.code == 1
        assert said in ended.err
        assert "Traceback" not in ended.err


def test_results_of_before_intervals_can_be_read(runs: list[Path]) -> None:
    file = runs[0] / "results.json"
    document = json.loads(file.read_text())
    for key in ("bootstrap", "target_interval"):
        del document[key]
    del document["protocol"]["min_side"]
    for score in document["scores"]:
        for key in ("interval", "dropped", "ap50_undropped", "lrp", "d_ece", "remarks"):
            del score[key]
    assert DomainTable.from_json(json.dumps(document)) == DomainTable.from_json(file.read_text())
