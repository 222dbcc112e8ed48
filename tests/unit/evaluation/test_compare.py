import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sora_det.evaluation import DomainTable
from sora_det.evaluation.compare import Spread, by_method, compare, read_results
from tests.tools.results import PROTOCOL, SPLITS, table

SORA = [table(60, 40, 20, method="SoRA", seed=0), table(64, 44, 20, method="SoRA", seed=1)]
FULL = table(80, 30, 10, method="Full", seed=0)


def test_mean_and_deviation_over_seeds() -> None:
    found = compare({"SoRA": SORA, "full": [FULL]})
    sora, full = found.methods
    values = {name: sora.spread(value) for name, value in found.columns.items()}
    assert values["clear"] == Spread(62.0, pytest.approx(8**0.5), 2)  # n - 1: sqrt(4 + 4)
    assert values["target mean"] == Spread(31.0, pytest.approx(2**0.5), 2)
    assert values["worst target"] == Spread(20.0, 0.0, 2)
    assert values["robustness"] == Spread(pytest.approx(50), pytest.approx(0), 2)
    assert full.spread(found.columns["drop"]) == Spread(60.0, None, 1)
    assert sora.seeds == (0, 1)


def test_text_names_runs_and_what_one_run_cannot_tell() -> None:
    text = compare({"SoRA": SORA, "full": [FULL]}).render("text")
    rows = [line.split("  ") for line in text.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    head = ["method", "runs", "clear", "fog", "night", "target mean", "worst target"]
    assert [*head, "drop", "robustness"] in cells
    sora = ["SoRA", "2", "62.0 ± 2.8", "42.0 ± 2.8", "20.0 ± 0.0", "31.0 ± 1.4", "20.0 ± 0.0"]
    assert [*sora, "31.0 ± 1.4", "50.0 ± 0.0"] in cells
    assert ["full", "1", "80.0", "30.0", "10.0", "20.0", "10.0", "60.0", "25.0"] in cells
    assert text.endswith("One run each, so that no spread is known: full.\n")


def test_long_names_do_not_widen_the_table() -> None:
    long = f"SoRA({', '.join(f'option_{i}=None' for i in range(9))})"
    found = compare({long: SORA, "Full()": [FULL]})
    assert [row[0] for row in found.cells()[1]] == ["SoRA", "Full"]
    assert f"SoRA is {long}." in found.notes()
    assert "One run each, so that no spread is known: Full." in found.notes()
    assert long in found.to_csv()
    assert json.loads(found.to_json())["methods"][0]["name"] == long
    other = long.replace("None", "True")
    assert [row[0] for row in compare({long: [FULL], other: [FULL]}).cells()[1]] == [long, other]


def test_another_metric() -> None:
    found = compare({"SoRA": SORA}, metric="coco_ap")
    assert found.methods[0].spread(found.columns["clear"]) == Spread(31.0, pytest.approx(2**0.5), 2)
    missing = compare({"SoRA": SORA}, metric="coco_ap75")
    assert missing.methods[0].spread(missing.columns["clear"]) is None
    assert "-" in missing.render("markdown")


def test_csv_json_latex_and_markdown_agree() -> None:
    found = compare({"SoRA": SORA, "R&D": [FULL]})
    rows = list(csv.DictReader(io.StringIO(found.render("csv"))))
    clear = [row for row in rows if row["column"] == "clear"]
    assert [(row["method"], float(row["mean"]), row["runs"]) for row in clear] == [
        ("SoRA", 62.0, "2"),
        ("R&D", 80.0, "1"),
    ]
    assert clear[1]["deviation"] == ""
    document = json.loads(found.render("json"))
    assert document["methods"][0]["values"]["clear"]["mean"] == 62.0
    assert document["methods"][1]["values"]["clear"]["deviation"] is None
    latex = found.render("latex")
    assert "R\\&D & 1 & 80.0" in latex
    assert "62.0 $\\pm$ 2.8" in latex
    assert "| 62.0 ± 2.8 |" in found.render("markdown")


def change(where: str, **values: Any) -> DomainTable:
    if where == "split":
        splits = (SPLITS[0], replace(SPLITS[1], **values), SPLITS[2])
        return replace(FULL, protocol=replace(PROTOCOL, splits=splits))
    return replace(FULL, protocol=replace(PROTOCOL, **values))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (change("rule", interpolation="area"), "interpolation 11point and area"),
        (change("rule", strict=True), "strict False and True"),
        (change("rule", min_side=32.0), "min_side 0.0 and 32.0"),
        (change("split", images=9), "images of fog 10 and 9"),
        (change("split", sha256="ef" * 32), "sha256 of fog abababababab and efefefefefef"),
        (
            change("split", annotations="12" * 32),
            "annotations of fog cdcdcdcdcdcd and 121212121212",
        ),
        (change("rule", splits=SPLITS[:2]), r"domains \(clear, fog, night\) and \(clear, fog\)"),
        (replace(FULL, benchmark="other"), "benchmark toy and other"),
    ],
)
def test_other_protocols_are_refused_unless_forced(other: DomainTable, said: str) -> None:
    with pytest.raises(ValueError, match=f"different protocols: {said}"):
        compare({"SoRA": SORA, "full": [other]})
    forced = compare({"SoRA": SORA, "full": [other]}, force=True).render("text")
    assert "PROTOCOLS DIFFER, the scores do not compare" in forced


def test_what_one_side_does_not_know_is_no_difference() -> None:
    unknown = replace(PROTOCOL, max_detections=None, score_threshold=None)
    assert unknown.differences(PROTOCOL) == PROTOCOL.differences(unknown) == []


def test_a_seed_counts_once() -> None:
    with pytest.raises(ValueError, match="several runs of seed 0"):
        compare({"SoRA": [SORA[0], SORA[0]]})
    with pytest.raises(ValueError, match="at least one run"):
        compare({})


def test_runs_are_grouped_by_what_they_are() -> None:
    other = table(1, 2, 3, method="SoRA", seed=0, weights="dinov2")
    groups = by_method([*SORA, other, FULL])
    assert list(groups) == ["SoRA", "SoRA, dinov2", "Full"]
    assert groups["SoRA"] == SORA


def test_read_results(tmp_path: Path) -> None:
    FULL.write(tmp_path)
    assert read_results(tmp_path) == read_results(tmp_path / "results.json") == FULL
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no results\.json"):
        read_results(tmp_path / "nowhere")
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ValueError, match=r"results\.json: a result file must be"):
        read_results(tmp_path)
