import hashlib
import json
import logging
import pickle
import pickletools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.structures import Boxes, Instances
from evaluation_fakes import CLASSES, SIZE, Oracle, loader, noisy, write_benchmark
from torch import nn

from sora_det.data import Benchmark
from sora_det.evaluation import DomainTable, RunInfo
from sora_det.evaluation import run as run_module
from sora_det.evaluation.run import evaluate
from sora_det.evaluation.saved import read_domains
from sora_det.evaluation.scores import Remark
from sora_det.evaluation.scoring import score_domain


@pytest.fixture
def benchmark_(tmp_path: Path) -> Benchmark:
    return write_benchmark(tmp_path / "data")


def table_of(benchmark: Benchmark, change: Any = None, **options: Any) -> DomainTable:
    return evaluate(Oracle(benchmark, change), benchmark, loader=loader(benchmark), **options)


def shifted(by: float) -> Callable[[Instances, str], Instances]:
    def change(found: Instances, _: str) -> Instances:
        found.pred_boxes.tensor[:, [0, 2]] += by
        return found

    return change


def only(rows: slice) -> Callable[[Instances, str], Instances]:
    return lambda found, _: found[rows]


def test_a_perfect_detector_scores_a_hundred_everywhere(benchmark_: Benchmark) -> None:
    table = table_of(benchmark_)
    assert [s.domain for s in table.scores] == ["clear", "fog", "night"]
    assert [s.role for s in table.scores] == ["source", "target", "target"]
    assert [s.images for s in table.scores] == [7, 5, 3]
    assert [s.ignored for s in table.scores] == [7, 5, 3]
    for score in table.scores:
        trucks = None if score.domain == "fog" else 100.0
        assert [c.name for c in score.classes] == list(CLASSES)
        assert [c.ap50 for c in score.classes] == [100.0, 100.0, trucks]
        assert score.ap50 == 100.0
        coco = (score.coco_ap, score.coco_ap50, score.coco_ap75)
        assert coco == pytest.approx((100, 100, 100))
        assert score.coco_large is None  # no box of 96 pixels
    assert [c.boxes for c in table.scores[0].classes] == [4, 7, 7]
    assert table.drop() == 0.0


def test_a_shifted_detector_scores_what_its_overlap_says(benchmark_: Benchmark) -> None:
    # 20 pixel cars moved by 4: IoU 16 / 24; 40 pixel buses and trucks: 36 / 44 = 0.818.
    clear = table_of(benchmark_, shifted(4)).scores[0]
    assert clear.ap50 == 100.0
    assert clear.coco_ap == pytest.approx((40 + 70 + 70) / 3)  # thresholds reached of ten
    assert clear.coco_ap75 == pytest.approx(200 / 3)
    assert clear.coco_small == pytest.approx(40)
    assert clear.coco_medium == pytest.approx(70)
    # Moved by 10 cars overlap by a third, the others by 30 / 50.
    clear = table_of(benchmark_, shifted(10)).scores[0]
    assert [c.ap50 for c in clear.classes] == [100.0, 0.0, 100.0]
    assert clear.ap50 == pytest.approx(200 / 3)


def test_no_detection_scores_zero(benchmark_: Benchmark) -> None:
    table = table_of(benchmark_, only(slice(0, 0)))
    assert [s.ap50 for s in table.scores] == [0.0, 0.0, 0.0]
    assert [s.coco_ap for s in table.scores] == [0.0, 0.0, 0.0]
    assert table.target_mean() == 0.0
    assert table.relative_robustness() is None


def test_finds_on_difficult_boxes_count_neither_way(benchmark_: Benchmark) -> None:
    without_difficult = table_of(benchmark_, lambda found, _: found[[0, *range(2, len(found))]])
    assert without_difficult.scores == table_of(benchmark_).scores


def test_an_image_belongs_to_the_domain_of_its_entry(benchmark_: Benchmark) -> None:
    # The stems are the same in all domains, so only the entry can tell them apart.
    def blind_in_fog(found: Instances, key: str) -> Instances:
        return found[:0] if key.startswith("fog/") else found

    table = table_of(benchmark_, blind_in_fog)
    assert [s.ap50 for s in table.scores] == [100.0, 0.0, 100.0]
    assert (table.target_mean(), table.drop()) == (50.0, 50.0)


def test_domains_and_splits_are_chosen_by_name(benchmark_: Benchmark) -> None:
    source = table_of(benchmark_, domains="source", split="val")
    assert [s.domain for s in source.scores] == ["clear"]
    assert source.protocol.splits[0].dataset == "small/clear/val"
    assert source.target_mean() is None
    night = table_of(benchmark_, domains=["night"])
    assert [s.domain for s in night.scores] == ["night"]
    assert night.source is None
    reordered = table_of(benchmark_, domains=["night", "clear"])
    assert [s.domain for s in reordered.scores] == ["clear", "night"]


def test_wrong_domains_are_refused(benchmark_: Benchmark) -> None:
    for domains in ("snow", ["clear", "snow"], []):
        with pytest.raises(ValueError, match="domains must be all, source or some of"):
            table_of(benchmark_, domains=domains)
    with pytest.raises(ValueError, match="only the source 'clear' has a split val"):
        table_of(benchmark_, split="val")
    with pytest.raises(ValueError, match="split must be test or val, got 'train'"):
        table_of(benchmark_, split="train")


def test_results_are_written_with_their_protocol(benchmark_: Benchmark, tmp_path: Path) -> None:
    run = RunInfo(config="toy.py", seed=3, iteration=100, random_init=True)
    table = table_of(benchmark_, noisy, output_dir=tmp_path / "out", run=run)
    text = (tmp_path / "out" / "results.json").read_text()
    assert DomainTable.from_json(text) == table
    names = {"results.json", "results.md", "detections"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names
    assert 0 < table.scores[0].ap50 < 100
    versions = {name: getattr(table.run, name) for name in ("detectron2", "sora_det", "python")}
    assert all(versions.values())
    assert table.run == replace(run, torch=torch.__version__, device="cpu", **versions)
    kept = read_domains(tmp_path / "out")
    assert [data.domain for data in kept] == [score.domain for score in table.scores]
    again = [score_domain(data).score for data in kept]
    assert tuple(again) == table.scores
    assert kept[1].files[0] == "fog/JPEGImages/000.jpg"
    split = table.protocol.splits[1]
    file = benchmark_.root / "fog" / "ImageSets" / "Main" / "test.txt"
    assert (split.domain, split.dataset, split.file) == ("fog", "small/fog/test", "test.txt")
    assert split.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (split.images, split.boxes, split.ignored) == (5, 8, 5)
    assert json.loads(text)["protocol"]["interpolation"] == "11point"


def test_nothing_is_written_or_printed_unasked(
    benchmark_: Benchmark,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    table_of(benchmark_)
    assert not list(cwd.iterdir())
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_drawn_on_a_terminal_alone(
    benchmark_: Benchmark, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    table_of(benchmark_)
    assert "clear" in capsys.readouterr().err
    table_of(benchmark_, progress=False)
    assert capsys.readouterr().err == ""


def test_every_domain_is_logged(benchmark_: Benchmark, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sora_det.evaluation")
    table_of(benchmark_)
    lines = [r.getMessage() for r in caplog.records if r.name == "sora_det.evaluation.run"]
    assert [line.split(",")[:2] for line in lines] == [
        ["clear: 7 images", " AP50 100.0"],
        ["fog: 5 images", " AP50 100.0"],
        ["night: 3 images", " AP50 100.0"],
    ]


def test_training_flags_come_back_one_by_one(benchmark_: Benchmark) -> None:
    model = Oracle(benchmark_)
    model.train()
    model.layer.eval()
    evaluate(model, benchmark_, loader=loader(benchmark_), domains="source")
    assert (model.training, model.layer.training) == (True, False)

    def fail(found: Instances, _: str) -> Instances:
        raise RuntimeError("out of memory")

    model.change = fail
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(model, benchmark_, loader=loader(benchmark_), domains="source")
    assert (model.training, model.layer.training) == (True, False)


def test_what_a_model_caches_can_be_trained_with(benchmark_: Benchmark) -> None:
    model = Oracle(benchmark_)
    cached: list[torch.Tensor] = []

    def cache(found: Instances, _: str) -> Instances:
        cached.append(torch.ones(1, 1))
        return found

    model.change = cache
    evaluate(model, benchmark_, loader=loader(benchmark_), domains="source")
    model.layer(cached[0]).sum().backward()
    assert model.layer.weight.grad is not None


def test_the_backbone_tells_how_it_started(benchmark_: Benchmark) -> None:
    model = Oracle(benchmark_)
    model.backbone = nn.Identity()
    model.backbone.random_init, model.backbone.weights_source = True, "none"
    table = evaluate(model, benchmark_, loader=loader(benchmark_), domains="source")
    assert (table.run.random_init, table.run.weights) == (True, "none")
    assert "random numbers" in table.to_text()


def test_limits_of_the_heads_are_part_of_the_protocol(benchmark_: Benchmark) -> None:
    model = Oracle(benchmark_)
    model.roi_heads = nn.Module()
    predictor = nn.Module()
    predictor.test_score_thresh, predictor.test_topk_per_image = 0.05, 100
    for box_predictor in (predictor, nn.ModuleList([nn.Module(), predictor])):
        model.roi_heads.box_predictor = box_predictor
        table = evaluate(model, benchmark_, loader=loader(benchmark_), domains="source")
        assert (table.protocol.score_threshold, table.protocol.max_detections) == (0.05, 100)
    assert table_of(benchmark_, domains="source").protocol.max_detections is None


def test_boxes_end_at_the_border_of_the_image(benchmark_: Benchmark) -> None:
    def add_padding(found: Instances, _: str) -> Instances:
        far = Instances(found.image_size)
        far.pred_boxes = Boxes(torch.tensor([[190.0, 110.0, 300.0, 300.0]]))
        far.scores, far.pred_classes = torch.tensor([0.95]), torch.tensor([0])
        return Instances.cat([found, far])

    corner = benchmark_.root / "clear" / "Annotations" / "001.xml"
    corner.write_text(
        corner.read_text().replace(
            "</annotation>",
            "<object><name>bus</name><bndbox><xmin>191</xmin><ymin>111</ymin>"
            f"<xmax>{SIZE[1]}</xmax><ymax>{SIZE[0]}</ymax></bndbox></object></annotation>",
        )
    )
    kept = ["001"]
    (benchmark_.root / "clear" / "ImageSets" / "Main" / "test.txt").write_text("\n".join(kept))
    score = table_of(benchmark_, add_padding, domains="source").scores[0]
    assert score.classes[0].ap50 == 100.0


def test_boxes_without_an_area_are_counted_in_the_result(benchmark_: Benchmark) -> None:
    def spoil(found: Instances, _: str) -> Instances:
        odd = Instances(found.image_size)
        outside, inverted = [300.0, 10.0, 320.0, 30.0], [50.0, 10.0, 40.0, 30.0]
        odd.pred_boxes = Boxes(torch.tensor([outside, inverted]))
        odd.scores, odd.pred_classes = torch.tensor([0.9, 0.9]), torch.tensor([1, 1])
        return Instances.cat([found, odd])

    table = table_of(benchmark_, spoil, domains="source")
    what = "boxes have no area within their image and count as wrong"
    assert table.scores[0].remarks == (Remark(what, 14),)
    assert f"clear: 14 {what}." in table.notes()
    assert table_of(benchmark_, domains="source").scores[0].remarks == ()


Batches = Iterator[list[dict[str, Any]]]


def test_every_image_must_come_exactly_once(benchmark_: Benchmark) -> None:
    def spoiled(change: Callable[[list[Any]], list[Any]]) -> Callable[[str], Any]:
        return lambda name: change(list(loader(benchmark_)(name)))

    model = Oracle(benchmark_)
    model.answers[("clear", "new")] = []
    cases: list[tuple[Callable[[list[Any]], list[Any]], str]] = [
        (lambda b: b[1:], r"1 of 7 images of domain 'clear' were not evaluated: \['000'\]"),
        (lambda b: [*b, b[2]], r"1 images of domain 'clear' came more than once: \['002'\]"),
        (
            lambda b: [*b, [b[0][0] | {"image_id": "new"}]],
            r"1 images are not in domain 'clear': \['new'\]",
        ),
        (
            lambda b: [[b[0][0] | {"domain": "fog"}], *b[1:]],
            "the loader of domain 'clear' gave image '000' of domain 'fog'",
        ),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            evaluate(model, benchmark_, loader=spoiled(change), domains="source")


def test_bad_detections_are_refused(benchmark_: Benchmark) -> None:
    def nan_score(found: Instances, _: str) -> Instances:
        found.scores[0] = float("nan")
        return found

    def infinite_box(found: Instances, _: str) -> Instances:
        found.pred_boxes.tensor[0, 2] = float("inf")
        return found

    def logit(found: Instances, _: str) -> Instances:
        found.scores[0] = 1.5
        return found

    def wrong_class(found: Instances, _: str) -> Instances:
        found.pred_classes[0] = 3
        return found

    def wrong_size(found: Instances, _: str) -> Instances:
        return Instances((60, 100), **found.get_fields())

    cases = [
        (nan_score, "7 of 25 detections on domain 'clear' have scores or boxes that are not"),
        (infinite_box, "not finite; has the training diverged"),
        (logit, "7 of 25 detections on domain 'clear' have a score that is not between 0 and 1: 1"),
        (wrong_class, r"detections of domain .clear.: label must be 0..2, got 0..3"),
        (wrong_size, r"in pixels of its original size \(height, width\) \(120, 200\), got \(60, 1"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            table_of(benchmark_, change, domains="source")


def test_a_broken_domain_is_found_before_any_inference(benchmark_: Benchmark) -> None:
    (benchmark_.root / "night" / "ImageSets" / "Main" / "test.txt").unlink()

    def never(name: str) -> Batches:
        raise AssertionError("inference began")

    with pytest.raises(FileNotFoundError, match="no split file"):
        evaluate(nn.Identity(), benchmark_, loader=never)


def test_processes_send_arrays_and_nothing_for_each_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    gather = run_module.comm.gather

    def spy(data: Any, dst: int) -> Any:
        sent.append(pickle.dumps(data))
        return gather(data, dst)

    monkeypatch.setattr(run_module.comm, "gather", spy)
    for images in (10, 90):  # few enough that no length needs a longer code
        domains = {"clear": images, "fog": 1}
        table_of(write_benchmark(tmp_path / str(images), domains), domains="source")
    few, many = ([code.name for code, *_ in pickletools.genops(found)] for found in sent)
    assert len(few) == len(many)
    assert len(sent[1]) > 4 * len(sent[0])  # their numbers are in it


def test_half_precision_detections_are_accepted(benchmark_: Benchmark) -> None:
    def half(found: Instances, _: str) -> Instances:
        found.scores = found.scores.bfloat16()
        found.pred_boxes.tensor = found.pred_boxes.tensor.half()
        return found

    assert table_of(benchmark_, half, domains="source").scores[0].ap50 == 100.0
