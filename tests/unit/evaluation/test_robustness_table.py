"""The table of corruptions: means by hand, notes, and files."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sora_det.evaluation import RunInfo, SplitInfo
from sora_det.evaluation.robustness import Cell, RobustnessTable, Settings, expected
from sora_det.evaluation.scoring import voc_protocol

SPLIT = SplitInfo("clear", "small/clear/test", "test.txt", "ab" * 32, 7, 21, 2)
PROTOCOL = voc_protocol(("car",), (SPLIT,), max_detections=100, score_threshold=0.05)
SETTINGS = Settings(version=1, seed=3, frost="drawn", numpy="2.0", opencv="4.10", pillow="11.0")
Score = Callable[[str, int], float | None]


def table(
    score: Score,
    *,
    common: tuple[str, ...] = ("fog", "frost"),
    extra: tuple[str, ...] = (),
    severities: tuple[int, ...] = (1, 3),
) -> RobustnessTable:
    """COCO AP by `score(corruption, severity)`, AP50 twice as much."""
    cells = [
        Cell(d, name, s, 7, 21, value, None if value is None else 2 * value, 1.5)
        for d, name, s in expected(["clear"], [*common, *extra], severities)
        for value in [score(name, s)]
    ]
    run = RunInfo(config="toy", checkpoint="model_final.pth", seed=0)
    return RobustnessTable(
        "small", PROTOCOL, SETTINGS, common, extra, severities, tuple(cells), run
    )


SCORES = {"": 40.0, "fog": 30.0, "frost": 10.0, "spatter": 0.0}
PLAIN = table(lambda name, s: SCORES[name] - s)  # clean 40, fog 29 and 27, frost 9 and 7


def test_means_are_over_severities_then_corruptions() -> None:
    assert PLAIN.score("clear") == 40
    assert PLAIN.score("clear", "fog", 3) == 27
    assert PLAIN.corruption_mean("clear", "frost") == 8
    assert PLAIN.mpc("clear") == 18
    assert PLAIN.rpc("clear") == pytest.approx(0.45)
    assert PLAIN.mpc("clear", "ap50") == 36
    assert PLAIN.rpc("clear", "ap50") == pytest.approx(0.45)


def test_extra_corruptions_stay_out_of_the_means() -> None:
    more = table(lambda name, s: SCORES[name], extra=("spatter",))
    assert more.mpc("clear") == 20
    assert "leave out the extra corruptions spatter" in " ".join(more.notes())
    assert "spatter (extra)" in more.to_text()
    alone = table(lambda name, s: SCORES[name] + 4, common=(), extra=("spatter",))
    assert alone.mpc("clear") == 4
    assert "(extra)" not in alone.to_text()


@pytest.mark.parametrize("clean", [0.0, 1e-320])
def test_no_ratio_to_nothing(clean: float) -> None:
    zero = table(lambda name, s: 5.0 if name else clean)
    assert (zero.mpc("clear"), zero.rpc("clear")) == (5, None)
    assert "clear has no rPC of COCO AP and AP50 (VOC): 0 on clean images." in zero.notes()
    assert json.loads(zero.to_json())["summary"]["clear"]["coco_ap"]["rpc"] is None
    unknown = table(lambda name, s: None)
    assert (unknown.mpc("clear"), unknown.rpc("clear")) == (None, None)
    assert RobustnessTable.from_json(unknown.to_json()) == unknown


def test_a_mean_without_one_of_its_scores_does_not_exist() -> None:
    holed = table(lambda name, s: None if (name, s) == ("fog", 3) else 5.0)
    assert holed.corruption_mean("clear", "fog") is None
    assert holed.corruption_mean("clear", "frost") == 5
    assert holed.mpc("clear") is None


def test_notes_on_what_does_not_compare() -> None:
    assert "over 2 corruptions and severities 1, 3: the benchmark's" in PLAIN.notes()[0]
    assert "Frost is drawn, where the benchmark has photographs." in PLAIN.notes()
    photographs = replace(PLAIN, settings=replace(SETTINGS, frost="cd" * 32))
    assert not [note for note in photographs.notes() if "drawn" in note]
    fifteen = tuple(f"corruption {i}" for i in range(15))
    whole = table(lambda name, s: 5.0, common=fifteen, severities=(1, 2, 3, 4, 5))
    assert whole.notes() == ()


def test_text() -> None:
    text = PLAIN.to_text()
    assert "small, clear: COCO AP in percent under corruptions of severity 1, 3 (7 images" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["corruption", "1", "3", "mean"] in lines
    assert ["fog", "29.0", "27.0", "28.0"] in lines
    assert ["clean,", "P", "40.0"] in lines
    assert ["corrupted,", "mPC", "18.0"] in lines
    assert ["mPC", "/", "P,", "rPC", "(%)", "45.0"] in lines


def test_files(tmp_path: Path) -> None:
    json_file, md_file = PLAIN.write(tmp_path / "new")
    assert RobustnessTable.from_json(json_file.read_text()) == PLAIN
    assert {file.name for file in json_file.parent.iterdir()} == {
        "robustness.json",
        "robustness.md",
    }
    for text in ("| fog ", "SHA-256", "seed: 3", "opencv: 4.10", "model_final.pth", "| 7 |"):
        assert text in md_file.read_text().replace("   ", " ").replace("  ", " ")


def test_the_summary_is_in_the_file() -> None:
    summary = json.loads(PLAIN.to_json())["summary"]["clear"]["coco_ap"]
    assert summary == {
        "clean": 40.0,
        "mpc": 18.0,
        "rpc": 0.45,
        "corruptions": {"fog": 28.0, "frost": 8.0},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cells: cells[1:], "missing, unknown or twice: .*'clear', '', 0"),
        (lambda cells: (*cells, cells[2]), "missing, unknown or twice: .*'clear', 'fog', 3"),
        (lambda cells: (*cells, replace(cells[1], severity=5)), "'clear', 'fog', 5"),
    ],
)
def test_every_cell_must_be_there_once(
    change: Callable[[tuple[Cell, ...]], tuple[Cell, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, cells=change(PLAIN.cells))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ("[]", "must be a JSON object with format 'sora_det.robustness'"),
        ('{"format": "sora_det.robustness", "version": 9}', "version must be 1, got 9"),
        ('{"format": "sora_det.robustness", "version": 1}', "robustness lacks"),
    ],
)
def test_other_files_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RobustnessTable.from_json(text)
