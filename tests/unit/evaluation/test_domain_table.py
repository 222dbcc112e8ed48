import csv
import io
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from sora_det.evaluation import (
    Bootstrap,
    ClassScore,
    DomainScore,
    DomainTable,
    Interval,
    Protocol,
    RunInfo,
    SplitInfo,
    table,
)
from sora_det.evaluation.scores import LRP, Remark
from sora_det.evaluation.scoring import voc_protocol

CLASSES = ("bus", "car")


def score(domain: str, role: Any, bus: float | None, car: float | None) -> DomainScore:
    known = [ap for ap in (bus, car) if ap is not None]
    ap50 = sum(known) / len(known) if known else None
    return DomainScore(
        domain=domain,
        role=role,
        images=10,
        ignored=1,
        classes=(ClassScore("bus", 0 if bus is None else 3, bus), ClassScore("car", 20, car)),
        ap50=ap50,
        coco_ap=None if ap50 is None else ap50 / 2,
        coco_ap50=ap50,
        coco_ap75=12.5,
        coco_small=0.0,
        coco_medium=30.0,
        coco_large=None,
    )


SPLIT = SplitInfo("clear", "toy/clear/test", "test.txt", "ab" * 32, 10, 23, 1, "cd" * 32)
PROTOCOL = voc_protocol(CLASSES, (SPLIT,), max_detections=100, score_threshold=0.05)
SOURCE = score("clear", "source", 60.0, 80.0)
FOG = score("fog", "target", 30.0, 50.0)
NIGHT = score("night", "target", None, 20.0)


def table_of(*scores: DomainScore, **run: Any) -> DomainTable:
    return DomainTable("toy", PROTOCOL, scores, RunInfo(**run))


FULL = table_of(SOURCE, FOG, NIGHT, random_init=True, seed=1)


def test_mean_drop_and_worst() -> None:
    assert FULL.source is SOURCE
    assert FULL.targets == (FOG, NIGHT)
    assert FULL.target_mean() == 30.0
    assert FULL.drop() == 40.0
    assert FULL.relative_robustness() == pytest.approx(30 / 70)
    assert FULL.worst_target() is NIGHT
    assert FULL.target_mean("coco_ap") == 15.0
    assert FULL.target_mean("coco_large") is None
    assert SOURCE.boxes == 23


def test_without_targets_nothing_is_invented() -> None:
    only = table_of(SOURCE)
    assert only.target_mean() is None
    assert only.drop() is None
    assert only.relative_robustness() is None
    assert only.worst_target() is None
    for text in (only.to_text(), only.to_markdown()):
        assert "target" not in text
        assert "drop" not in text


def test_without_the_source_there_is_no_drop() -> None:
    targets = table_of(FOG, NIGHT)
    assert (targets.source, targets.drop()) == (None, None)
    assert "target mean" in targets.to_text()
    assert "drop" not in targets.to_text()


TEXT = """\
toy: AP50 per class and mean (VOC, 11 points, IoU >= 0.5) and COCO AP, in percent
------------------------------------------------------------------
domain               role    images  boxes   bus   car  AP50    AP
------------------------------------------------------------------
clear                source      10     23  60.0  80.0  70.0  35.0
fog                  target      10     23  30.0  50.0  40.0  20.0
night                target      10     20     -  20.0  20.0  10.0
------------------------------------------------------------------
target mean                                 30.0  35.0  30.0  15.0
worst target         night                     -  20.0  20.0  10.0
drop from source                            30.0  45.0  40.0  20.0
relative robustness                         50.0  43.8  42.9  42.9
------------------------------------------------------------------
COCO scores, AP at two overlaps and by size of box
-----------------------------------------------------
domain         AP  AP.50  AP.75  small  medium  large
-----------------------------------------------------
clear        35.0   70.0   12.5    0.0    30.0      -
fog          20.0   40.0   12.5    0.0    30.0      -
night        10.0   20.0   12.5    0.0    30.0      -
-----------------------------------------------------
target mean  15.0   30.0   12.5    0.0    30.0      -
-----------------------------------------------------
The backbone started from random numbers, not from pretrained weights.
night has no ground truth for bus: left out of its mean.
"""


def test_text() -> None:
    assert FULL.to_text() == TEXT


def test_markdown_has_all_that_results_stand_on() -> None:
    lines = [" ".join(line.split()) for line in FULL.to_markdown().splitlines()]
    for line in (
        "| night | target | 10 | 20 | - | 20.0 | 20.0 | 10.0 |",
        "| **drop from source** | | | | **30.0** | **45.0** | **40.0** | **20.0** |",
        "| night | 10.0 | 20.0 | 12.5 | 0.0 | 30.0 | - |",
        "| clear | toy/clear/test | test.txt | abababababab | cdcdcdcdcdcd | 10 |",
        "| **target mean** | **15.0** | **30.0** | **12.5** | **0.0** | **30.0** | **-** |",
        "| **worst target** | **night** | | | **-** | **20.0** | **20.0** | **10.0** |",
        "| **relative robustness** | | | | **50.0** | **43.8** | **42.9** | **42.9** |",
        "| fog | 3 | 20 | 1 |",
        "- interpolation: 11point",
        "- seed: 1",
    ):
        assert line in lines


def test_a_tiny_gain_is_not_minus_zero() -> None:
    text = table_of(SOURCE, score("fog", "target", 60.01, 80.01)).to_text()
    (drop,) = (line for line in text.splitlines() if line.startswith("drop"))
    assert drop.split() == ["drop", "from", "source", "0.0", "0.0", "0.0", "0.0"]


def test_nothing_is_divided_by_nothing() -> None:
    text = table_of(score("clear", "source", 0.0, 80.0), FOG).to_text()
    (kept,) = (line for line in text.splitlines() if line.startswith("relative robustness"))
    assert kept.split()[2:] == ["-", "62.5", "100.0", "100.0"]


def test_a_bar_in_a_name_does_not_break_markdown() -> None:
    odd = table_of(replace(SOURCE, domain="rain|fog"))
    assert "| rain\\|fog " in odd.to_markdown()


def test_json_round_trip() -> None:
    again = DomainTable.from_json(FULL.to_json())
    assert again == FULL
    assert again.to_json() == FULL.to_json()
    summary = json.loads(FULL.to_json())["summary"]
    assert summary == {
        "source": 70.0,
        "target_mean": 30.0,
        "drop": 40.0,
        "relative_robustness": 30 / 70,
        "worst_target": "night",
    }


def changed(path: str, value: Any) -> str:
    """The JSON of the full table with one entry replaced (or removed, for `...`)."""
    document = json.loads(FULL.to_json())
    *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    place = document
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be JSON"),
        ("[1]", "must be a JSON object with format 'sora_det.domain_table'"),
        ("{}", "must be a JSON object with format 'sora_det.domain_table'"),
        (changed("version", 2), "version must be 1, got 2"),
        (changed("extra", 1), r"result must hold only .* unknown: \['extra'\]"),
        (changed("protocol", ...), r"result lacks \['protocol'\]"),
        (changed("scores.1.ap50", ...), r"result.scores\[1\] lacks \['ap50'\]"),
        (changed("scores.1.images", "10"), r"scores\[1\].images must be int, got str '10'"),
        (changed("scores.1.images", True), r"scores\[1\].images must be int, got bool True"),
        (changed("scores.1.ap50", float("nan")), r"scores\[1\].ap50 must be finite, got nan"),
        (changed("scores.1.ap50", 101), "scores must be 0..100 percent, got 101.0 in domain 'fog'"),
        (changed("scores.1.role", "test"), r"role must be one of 'source', 'target', got str"),
        (changed("scores.1.role", "source"), "only the first domain may be the source"),
        (changed("scores.1.domain", "clear"), "every domain may appear once"),
        (changed("scores.1.classes.0.name", "tram"), "domain 'fog' must list the classes"),
        (changed("scores", []), "needs at least one domain"),
        (changed("scores", {}), r"result.scores must be a list, got dict \{\}"),
        (changed("run", None), "result.run must be an object, got NoneType None"),
        (changed("protocol.iou", None), "result.protocol.iou must be float, got NoneType None"),
    ],
)
def test_junk_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DomainTable.from_json(text)


def test_whole_numbers_serve_as_floats() -> None:
    again = DomainTable.from_json(changed("scores.1.ap50", 40))
    assert again == FULL
    assert isinstance(again.scores[1].ap50, float)


def test_notes_say_what_is_missing() -> None:
    assert FULL.notes() == (
        "The backbone started from random numbers, not from pretrained weights.",
        "night has no ground truth for bus: left out of its mean.",
    )
    assert table_of(SOURCE).notes() == ()
    for note in FULL.notes():
        assert note in FULL.to_text()
        assert note in FULL.to_markdown()


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(ValueError, match=r"metric must be one of ap50, coco_ap, .* got 'map'"):
        FULL.target_mean("map")  # type: ignore[arg-type]


def test_write_replaces_old_results(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    table_of(SOURCE).write(folder)
    paths = FULL.write(folder)
    assert [path.name for path in paths] == ["results.json", "results.md"]
    assert sorted(os.listdir(folder)) == ["results.json", "results.md"]
    assert DomainTable.from_json(paths[0].read_text()) == FULL
    assert paths[1].read_text() == FULL.to_markdown()


def test_a_failed_write_leaves_the_old_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FULL.write(tmp_path)

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(table.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        table_of(SOURCE).write(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["results.json", "results.md"]
    assert DomainTable.from_json((tmp_path / "results.json").read_text()) == FULL


def test_different_protocols_differ() -> None:
    assert replace(PROTOCOL, iou=0.75) != PROTOCOL
    assert PROTOCOL == Protocol(**{**asdict(PROTOCOL), "splits": PROTOCOL.splits})


def with_extras() -> DomainTable:
    """A source with intervals, a rare class, left-out boxes and remarks."""
    error = LRP(60.0, 25.0, None, 40.0)
    rare = ClassScore("bus", 3, 60.0, Interval(40.0, 75.0), error)
    clear = replace(
        SOURCE,
        classes=(rare, ClassScore("car", 20, 80.0, Interval(78.0, 81.0), error)),
        interval=Interval(61.0, 76.0),
        dropped=7,
        ap50_undropped=55.5,
        lrp=error,
        d_ece=3.25,
        remarks=(Remark("boxes reached beyond their image", 4),),
    )
    return replace(
        table_of(clear, replace(FOG, interval=Interval(35.0, 45.0))),
        protocol=replace(PROTOCOL, min_side=32.0),
        bootstrap=Bootstrap(1000, 0.95, 0),
        target_interval=Interval(35.0, 45.0),
    )


def test_intervals_stand_below_their_scores() -> None:
    lines = [line.split() for line in with_extras().to_text().splitlines()]
    row = lines.index(["clear", "source", "10", "23", "60.0", "80.0", "70.0", "35.0"])
    assert lines[row + 1] == ["±17.5", "±1.5", "±7.5"]
    row = lines.index(["target", "mean", "30.0", "50.0", "40.0", "20.0"])
    assert lines[row + 1] == ["±5.0"]
    assert "±: half of the 95% interval" in with_extras().to_text()
    assert "±" not in FULL.to_text()


def test_what_moves_scores_is_said_beside_them() -> None:
    notes = with_extras().notes()
    assert "clear: uncertain by more than ±5: bus (3 boxes)." in notes
    assert (
        "clear: 7 of 30 boxes are left out, with a side below 32 pixels; with them AP50 is 55.5."
    ) in notes
    assert "clear: 4 boxes reached beyond their image." in notes
    assert "boxes with a side below 32 pixels left out" in with_extras().to_text().splitlines()[0]


@pytest.mark.parametrize(("boxes", "named"), [(19, True), (20, False)])
def test_an_interval_of_nothing_does_not_make_few_boxes_certain(boxes: int, named: bool) -> None:
    bus = ClassScore("bus", boxes, 100.0, Interval(100.0, 100.0))
    table = table_of(replace(SOURCE, classes=(bus, SOURCE.classes[1])))
    note = f"clear: uncertain by more than ±5: bus ({boxes} boxes)."
    assert (note in table.notes()) == named


def test_extras_survive_json() -> None:
    assert DomainTable.from_json(with_extras().to_json()) == with_extras()


def test_extras_in_text() -> None:
    lines = [" ".join(line.split()) for line in with_extras().to_text().splitlines()]
    assert lines.count("domain bus car mean localisation FP FN") == 1
    assert "clear 60.0 60.0 60.0 25.0 - 40.0" in lines
    assert "clear 3.2" in lines
    assert "Localisation-recall-precision error, lower is better" in lines
    assert "lower is better" not in FULL.to_text()


def test_extras_in_markdown() -> None:
    lines = [" ".join(line.split()) for line in with_extras().to_markdown().splitlines()]
    assert "| clear | 60.0 | 60.0 | 60.0 | 25.0 | - | 40.0 |" in lines
    assert "| fog | - | - | - | - | - | - |" in lines
    assert "| clear | 3.2 |" in lines
    assert "- bootstrap: replicates 1000, level 0.95, seed 0" in lines


def test_csv_holds_every_score_in_full() -> None:
    rows = list(csv.DictReader(io.StringIO(with_extras().to_csv())))
    found = {(r["domain"], r["class"], r["metric"]): r for r in rows}
    bus = found["clear", "bus", "ap50"]
    assert (bus["value"], bus["low"], bus["high"], bus["boxes"]) == ("60.0", "40.0", "75.0", "3")
    assert found["clear", "", "d_ece"]["value"] == "3.25"
    assert found["clear", "bus", "lrp_false_positives"]["value"] == ""
    assert found["fog", "", "coco_large"]["value"] == ""
    assert found["target mean", "", "ap50"]["high"] == "45.0"
    assert found["target mean", "", "coco_ap75"]["value"] == "12.5"
    assert found["drop from source", "", "ap50"]["value"] == "30.0"
    assert found["relative robustness", "", "coco_ap"]["value"] == str(100 * 20 / 35)
    worst = found["worst target", "", "ap50"]
    assert (worst["value"], worst["low"], worst["role"]) == ("40.0", "35.0", "fog")
    assert len(found) == len(rows)


def test_latex_is_a_tabular() -> None:
    strange = replace(FOG, domain="fog_50%")
    text = table_of(SOURCE, strange).to_latex()
    assert text.startswith("% toy: AP50")
    assert "\\begin{tabular}{llrrrrrr}\n\\toprule\n" in text
    assert "fog\\_50\\% & target & 10 & 23 & 30.0 & 50.0 & 40.0 & 20.0 \\\\\n" in text
    assert "worst target & fog\\_50\\% &  &  & 30.0 & 50.0 & 40.0 & 20.0 \\\\\n" in text
    assert "% COCO scores, AP at two overlaps and by size of box\n\\begin{tabular}{lrrrrrr}" in text
    assert text.endswith("\\bottomrule\n\\end{tabular}\n")


def test_latex_has_the_intervals() -> None:
    text = with_extras().to_latex()
    assert " &  &  &  & $\\pm$17.5 & $\\pm$1.5 & $\\pm$7.5 &  \\\\\n" in text
    assert "% clear: 7 of 30 boxes are left out" in text
    assert "{lrrrrrr}\n\\toprule\ndomain & bus & car & mean & localisation & FP & FN" in text


def test_negative_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="min_side must be 0 or more pixels, got -1"):
        replace(PROTOCOL, min_side=-1.0)
