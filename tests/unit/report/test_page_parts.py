"""What a page is made of: markup, axes, words, charts, curves, choices of images."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sora_det.evaluation.ap import Detections, GroundTruth, average_precision
from sora_det.evaluation.compare import shortened
from sora_det.evaluation.convention import Convention
from sora_det.evaluation.saved import DomainData
from sora_det.evaluation.scoring import voc_protocol
from sora_det.report.axes import Axis, linear, logarithmic
from sora_det.report.charts import Bar, Line, Row, bar_chart, line_chart
from sora_det.report.figures import LIMIT, read_plots
from sora_det.report.gallery import boxes_on, pick, tally
from sora_det.report.html import Markup, join, tag
from sora_det.report.judged import DEFAULT_THRESHOLD, Judged, judge
from sora_det.report.labels import Label, place
from sora_det.report.pictures import SIDE, thumbnail
from sora_det.report.precision import STEPS, thinned
from sora_det.report.tables import Cell, Column, table
from sora_det.report.training import Training, read_training
from sora_det.report.words import count, fraction, listed, number, percent
from tests.tools.report_runs import domain_data

UNIT = Axis("", 0, 1, (0.0, 1.0))


# --- markup -------------------------------------------------------------------------------


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "a<b", tag("b", "&")) == "<p>a&lt;b<b>&amp;</b></p>"
    assert tag("p", ["x", None, [1, 2.5]]) == "<p>x12.5</p>"
    assert join("<", Markup("<")) == "&lt;<"


def test_attributes_are_escaped_named_and_left_out() -> None:
    assert tag("i", title='"><', class_="a", data_x=1) == (
        '<i title="&quot;&gt;&lt;" class="a" data-x="1"></i>'
    )
    assert tag("input", checked=True, disabled=False, value=None) == "<input checked>"
    assert tag("rect", x=1.005, y=2.0) == '<rect x="1" y="2"/>'


def test_control_characters_and_changes_of_direction_do_not_reach_the_page() -> None:
    assert tag("p", "a\x00b\u202ec\ud800\n") == "<p>a\ufffdb\ufffdc\ufffd\n</p>"


# --- axes and words -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([3.0, 18.2], (0, 5, 10, 15, 20)),
        ([0.0], (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        ([], (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        ([math.nan, 1e-4, math.inf], (0, 2e-5, 4e-5, 6e-5, 8e-5, 1e-4)),
        ([100.0], (0, 20, 40, 60, 80, 100)),
        ([-3.0, 4.0], (-4, -2, 0, 2, 4)),
    ],
)
def test_linear_axes_end_at_round_numbers(values: list[float], ticks: tuple[float, ...]) -> None:
    axis = linear("", values)
    assert axis.ticks == pytest.approx(ticks)
    assert (axis.low, axis.high) == pytest.approx((ticks[0], ticks[-1]))


def test_places_on_axes() -> None:
    assert linear("", [10.0]).place(5.0) == 0.5
    assert UNIT.place(7.0) == 1.0
    log = logarithmic("", [1e-4, 0.0, 0.02])
    assert log.ticks == pytest.approx((1e-4, 1e-3, 1e-2, 1e-1))
    assert log.place(1e-3) == pytest.approx(1 / 3)
    assert logarithmic("", [1.0]).high == 10.0
    assert logarithmic("", []).low == 1.0
    assert len(logarithmic("", [1e-20, 1.0]).ticks) <= 7


def test_numbers_in_words() -> None:
    assert [number(v) for v in (0, 1e-4, 2.5e-6, 0.05, 0.25, 20, 12345, 1e6)] == [
        "0", "1e-4", "2.5e-6", "0.05", "0.25", "20", "12345", "1e6"
    ]  # fmt: skip
    assert (percent(None), percent(-0.01), percent(12.25)) == ("–", "0.0", "12.2")
    assert (fraction(None), fraction(0.5)) == ("–", "0.50")
    assert (count(1, "box", "boxes"), count(2000, "box", "boxes")) == ("1 box", "2,000 boxes")
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcd"), 2) == "a, b and 2 more"
    assert shortened(["SoRA(rank=4)", "Full()"]) == ["SoRA", "Full"]
    assert shortened(["SoRA(rank=4)", "SoRA(rank=8)"]) == ["SoRA(rank=4)", "SoRA(rank=8)"]


# --- tables and charts --------------------------------------------------------------------


def test_cells_sort_by_their_values_and_rows_are_named() -> None:
    drawn = table(
        "caption",
        [Column("name", number=False), Column("score", "what")],
        [[Cell("a", "a"), Cell("1.2", 1.23456789, "±1", 0.5)], [Cell("b", "b"), Cell("–")]],
        [[Cell("mean"), Cell("1.2")]],
    )
    assert '<th scope="row" data-value="a">a</th>' in drawn
    assert 'data-value="1.23457" style="--heat:50%">1.2<small>±1</small>' in drawn
    assert '<td class="n">–</td>' in drawn
    assert "<tfoot><tr>" in drawn
    assert drawn.count("<button") == 2
    plain = table("c", [Column("a")], [], sortable=False)
    assert "<button" not in plain
    assert "sortable" not in plain


def test_bars_are_as_long_as_their_values() -> None:
    rows = [
        Row("a <name> that is long", "7", [Bar(0.5, "s0", "half", 0.25, 0.75, [0.4])]),
        Row("b", "", [Bar(None, "s0", "nothing")]),
    ]
    drawn = bar_chart(rows, UNIT, words="w")
    span = 320 - 118 - 36
    assert f'width="{span / 2:g}"' in drawn
    assert f"M{118 + span / 4:.1f}" in drawn
    assert "a &lt;name&gt; that is long</title>a &lt;name&gt; that…" in drawn
    assert ">none</text>" in drawn


def test_lines_break_at_gaps_and_single_points_are_dots() -> None:
    line = Line("l", [0, 0.5, 0.6, 1], [0.0, 1.0, math.nan, 0.5], "s0", [(0.5, 0.5, "here")])
    drawn = line_chart([line], UNIT, UNIT, words="w")
    assert drawn.count("<polyline") == 1
    assert drawn.count('class="dot"') == 1
    assert "<title>here</title>" in drawn


# --- curves and operating points ----------------------------------------------------------


def tiny(role: str = "source", score: tuple[float, ...] = (0.9, 0.8, 0.7, 0.6)) -> DomainData:
    """Images 0 to 2 with a box of class 0 each; right, wrong, right and right again."""
    box = np.tile(np.array([[10.0, 10, 20, 20]]), (3, 1))
    image = np.array([0, 0, 1, 1])
    found = np.array([[10.0, 10, 20, 20], [50, 50, 60, 60], [10, 10, 20, 20], [10, 10, 20, 20]])
    return DomainData(
        domain=role,
        role="source" if role == "source" else "target",
        classes=("car", "tram"),
        ids=("a", "b", "c", "d"),
        files=("",) * 4,
        root="",
        size=np.full((4, 2), 100.0),
        truth=GroundTruth(np.arange(3), np.zeros(3, int), box, np.zeros(3, bool)),
        detections=Detections(image, np.zeros(4, int), np.array(score), found),
    )


def judged(*data: DomainData, min_side: float = 0.0) -> dict[str, Judged]:
    return judge(data, voc_protocol(data[0].classes, (), min_side=min_side))


def test_the_threshold_of_the_best_f1_on_the_source_rules_everywhere() -> None:
    target = tiny("target", (0.65, 0.6, 0.8, 0.1))
    found = judged(tiny(), target)
    car = found["source"].curves[0]
    assert car.best is not None
    assert (car.best.threshold, car.best.precision, car.best.recall) == (0.7, 2 / 3, 2 / 3)
    assert car.operating == car.best
    assert found["target"].thresholds == (0.7, DEFAULT_THRESHOLD)
    at = found["target"].curves[0].operating
    assert at is not None
    assert (at.precision, at.recall) == (1.0, 1 / 3)
    assert at.f1 == pytest.approx(0.5)
    assert found["source"].curves[1].best is None
    assert found["source"].curves[1].operating is None


def test_equal_scores_are_one_point() -> None:
    (one,) = judged(tiny(score=(0.5, 0.5, 0.5, 0.5))).values()
    assert one.curves[0].best is not None
    assert one.curves[0].best.precision == 0.5
    assert one.shown.all()


def test_curves_enclose_the_area_that_is_average_precision() -> None:
    data = domain_data("clear", images=40)
    (one,) = judged(data).values()
    rule = Convention(interpolation="area")
    result = average_precision(data.detections, data.truth, num_classes=2, convention=rule)
    for curve, want in zip(one.curves, result.classes, strict=True):
        assert float(np.trapezoid(curve.precision, curve.recall)) == pytest.approx(want.ap)
        assert (np.diff(curve.precision) <= 0).all()


def test_curves_of_many_points_are_thinned_to_what_is_seen() -> None:
    recall = np.linspace(0, 1, 100_001)
    precision = 1 - 0.5 * recall
    x, y = thinned(recall, precision)
    assert len(x) <= 2 * (STEPS + 1)
    assert (x[0], x[-1], y[-1]) == (0, 1, 0.5)
    assert np.abs(np.interp(recall, x, y) - precision).max() < 1e-9
    assert thinned(recall[:0], recall[:0])[0].size == 0
    x, y = thinned(np.array([0.0, 0.5, 0.5, 0.9]), np.array([1.0, 1.0, 0.4, 0.4]))
    assert (x.tolist(), y.tolist()) == ([0, 0.5, 0.5, 0.9], [1, 1, 0.4, 0.4])


def test_boxes_that_the_protocol_leaves_out_are_not_missed() -> None:
    (one,) = judged(tiny(), min_side=11).values()
    assert len(one.counted) == 0
    assert one.curves[0].truth == 0
    assert one.ap50 == (None, None, None)


# --- the gallery --------------------------------------------------------------------------


def test_counts_and_boxes_of_an_image() -> None:
    (one,) = judged(replace(tiny(), detections=tiny().detections)).values()
    counts = tally(one)
    assert counts.right.tolist() == [1, 1, 0, 0]
    assert counts.wrong.tolist() == [1, 0, 0, 0]  # the fourth lies below the threshold
    assert counts.missed.tolist() == [0, 0, 1, 0]
    np.testing.assert_allclose(counts.f1, [2 / 3, 1, 0, math.nan])
    boxes = boxes_on(one, 0)
    assert [len(part[1]) for part in (boxes.found, boxes.missed, boxes.right, boxes.wrong)] == [
        1, 0, 1, 1
    ]  # fmt: skip
    assert len(boxes_on(one, 2).missed[1]) == 1


def test_images_are_chosen_as_said() -> None:
    (one,) = judged(tiny()).values()
    chosen = pick(one, count=2, seed=0)
    assert chosen["worst"] == [2, 0]
    assert chosen["best"] == [1]
    assert len(set(chosen["random"])) == 2
    assert pick(one, count=2, seed=0) == chosen
    drawn = {tuple(pick(one, count=2, seed=seed)["random"]) for seed in range(20)}
    assert len(drawn) > 3
    assert {i for pair in drawn for i in pair} == {0, 1, 2, 3}


def test_ignored_boxes_are_neither_missed_nor_wrong() -> None:
    data = tiny()
    truth = replace(data.truth, ignore=np.array([True, False, False]))
    (one,) = judged(replace(data, truth=truth)).values()
    counts = tally(one)
    assert counts.right.tolist() == [0, 1, 0, 0]
    assert counts.missed.tolist() == [0, 0, 1, 0]
    boxes = boxes_on(one, 0)
    assert (len(boxes.ignored[1]), len(boxes.missed[1]), len(boxes.neutral[1])) == (1, 0, 1)


def test_names_do_not_cover_each_other_or_leave_the_image() -> None:
    labels = [Label("motor .50", (90.0, 2.0, 99.0, 12.0), "right")] * 5
    put = place(labels, 100, 100, 8)
    assert 2 <= len(put) < 5  # there are three places at a box
    assert all(0 <= p.x and p.x + 0.6 * 8 * 9 <= 100 and 0 < p.y < 100 for p in put)
    assert len({p.y for p in put}) == len(put)


def test_thumbnails_are_small_and_unreadable_files_are_none(tmp_path: Path) -> None:
    import base64

    import cv2

    file = tmp_path / "große.png"
    file.write_bytes(cv2.imencode(".png", np.zeros((300, 1200, 3), np.uint8))[1].tobytes())
    uri = thumbnail(file)
    assert uri is not None
    code = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    assert cv2.imdecode(code, cv2.IMREAD_COLOR).shape == (SIDE // 4, SIDE, 3)
    assert thumbnail(tmp_path) is None
    assert thumbnail(tmp_path / "nothing.png") is None


# --- training and plots -------------------------------------------------------------------


def test_a_resumed_training_counts_its_last_line_for_an_iteration(tmp_path: Path) -> None:
    entries = [(0, 3.0), (20, 2.0), (40, 9.0), (20, 1.5), (40, math.nan)]
    lines = [json.dumps({"iteration": i, "total_loss": v, "name": "x"}) for i, v in entries]
    (tmp_path / "metrics.json").write_text("\n".join([*lines, "[1]", '{"iteration": "x"}', "{"]))
    found = read_training(tmp_path)
    assert isinstance(found, Training)
    assert found.broken == 3
    assert list(found.series) == ["total_loss"]
    x, y = found.series["total_loss"]
    assert x == [0, 20, 40]
    assert y[:2] == [3.0, 1.5]
    assert math.isnan(y[2])


def test_a_plot_too_large_gives_way_to_its_png(tmp_path: Path) -> None:
    (tmp_path / "forgetting.json").write_text('{"format": "sora_det.forgetting"}')
    (tmp_path / "forgetting.svg").write_bytes(b" " * (LIMIT + 1))
    assert [plot.uri for plot in read_plots(tmp_path)] == [""]
    (tmp_path / "forgetting.png").write_bytes(b"small")
    (plot,) = read_plots(tmp_path)
    assert plot.uri.startswith("data:image/png")
