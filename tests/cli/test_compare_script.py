"""scripts/compare.py as a user types it: planned, killed, gone on with, and shown."""

import json
import shutil
import time
from pathlib import Path

import pytest

from sora_det.evaluation.explained import from_json
from tests.tools.process import ROOT, Ended, Started
from tests.tools.tiny_run import MANY_BOXES, OVERRIDES

SCRIPT = ROOT / "scripts" / "compare.py"
SECONDS = 300  # until a hanging script is given up
OF_METHODS = ("adaptation.",)
MACHINE = ("backbone.net.weights", "train.device")

STUDY = """
name: tiny
question: Does it run?
config: configs/toy_sora_frcnn.py
reference: full
seeds: [0, 1]
settings:
  backbone.net.weights: ''''''
  train.max_iter: 3
  train.checkpoint_period: 1
{settings}
learning_rate:
  sets: [optimizer.params.rates.adapter.lr, optimizer.params.rates.backbone.lr]
  grid: [1e-4, 3e-4, 1e-3]
  most: 3
  seeds: [9]
  held_out: 0.3
  metric: coco_ap
  checkpoint: last
methods:
  SoRA:
    adaptation: configs/common/adaptation/sora.py
    settings: {{adaptation.rank: 2}}
  full: {{adaptation: configs/common/adaptation/full.py}}
"""


def study_text() -> str:
    pairs = (text.partition("=") for text in (*OVERRIDES, *MANY_BOXES))
    shared = [(k, v) for k, _, v in pairs if not k.startswith((*OF_METHODS, *MACHINE))]
    return STUDY.format(settings="\n".join(f"  {k}: '{v}'" for k, v in dict(shared).items()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare_script")
    (folder / "study.yaml").write_text(study_text())
    (folder / "page.md").write_text("# Page\n\n<!-- study tiny -->\n<!-- end -->\n")
    return folder


def started(toy: Path, folder: Path, name: str, *more: object) -> Started:
    arguments = [SCRIPT, folder / "study.yaml", "--results", folder / "results"]
    arguments += ["--work", folder / "work", "--into", folder / "page.md", *more]
    machine = [f"benchmark.file={toy}", "train.device=cpu"]
    env = {"CUDA_VISIBLE_DEVICES": ""}
    return Started(*map(str, arguments), *machine, folder=folder / f"{name} says", env=env)


@pytest.fixture(scope="module")
def ended(toy: Path, folder: Path) -> dict[str, Ended]:
    """A plan; a start that is killed after its first results; a second that ends; a third."""
    plan = started(toy, folder, "plan", "--dry-run").wait(SECONDS)
    killed = started(toy, folder, "killed", "--jobs", 2)
    end = time.monotonic() + SECONDS
    while len(results(folder)) < 2 and killed.process.poll() is None:
        assert time.monotonic() < end, killed.last_words()
        time.sleep(0.1)
    assert killed.process.poll() is None, killed.last_words()
    killed.kill()  # its runs go on, and whoever comes next waits for them
    before = results(folder)
    found = {"plan": plan, "second": started(toy, folder, "second", "--jobs", 2).wait(SECONDS)}
    assert all(results(folder)[file] == text for file, text in before.items())
    found["third"] = started(toy, folder, "third").wait(SECONDS)
    more = ["--explain", "--figures", folder / "figures"]
    found["explained"] = started(toy, folder, "explained", *more).wait(SECONDS)
    return found


def results(folder: Path) -> dict[str, str]:
    files = (folder / "results").glob("*-*.json")
    return {file.name: file.read_text() for file in files}


def test_the_plan(ended: dict[str, Ended]) -> None:
    assert ended["plan"].code == 0, ended["plan"].err
    assert "left: SoRA, search, rate 0.0001, seed 9" in ended["plan"].out
    assert "0 runs are done, 6 or more of searches and 4 final ones are left" in ended["plan"].out


def test_all_runs_are_there(ended: dict[str, Ended], folder: Path) -> None:
    assert ended["second"].code == 0, ended["second"].err + ended["second"].out
    documents = {name: json.loads(text) for name, text in results(folder).items()}
    assert len(documents) == 2 * 3 + 2 * 2
    search = documents["SoRA-search-lr0.0003-seed9.json"]
    final = documents["SoRA-final-seed1.json"]
    (held_out,) = search["table"]["scores"]
    assert (held_out["domain"], held_out["role"]) == ("daytime-clear", "source")
    assert search["table"]["protocol"]["splits"][0]["dataset"] == "toy_weather/daytime-clear/val"
    assert len(final["table"]["scores"]) == len(final["draws"]) == 5
    assert len(final["draws"][0]["ap50"].split()) == 500
    assert final["table"]["run"]["config"] == "SoRA"
    assert search["key"]["data"] == final["key"]["data"]
    assert str(folder) not in "".join(results(folder).values())  # no path of a machine


def test_held_out_images_are_others_than_those_trained_on(toy: Path, folder: Path) -> None:
    document = json.loads(results(folder)["full-search-lr0.0001-seed9.json"])
    (split,) = document["table"]["protocol"]["splits"]
    assert 0 < split["images"] < 8


def test_table_and_page(ended: dict[str, Ended], folder: Path) -> None:
    text = (folder / "results" / "table.md").read_text()
    assert text in (folder / "page.md").read_text()
    assert "| SoRA   |    2 |" in text
    assert "4 of 4 final runs are done" in text
    assert "Difference to full" in text
    assert "<h1>tiny</h1>" in (folder / "results" / "report.html").read_text()


def test_the_third_start_makes_nothing(ended: dict[str, Ended]) -> None:
    assert ended["third"].code == 0, ended["third"].err
    assert "10 runs are done, none is left" in ended["third"].out


def test_backbones_are_compared_with_the_pretrained_ones(
    ended: dict[str, Ended], toy: Path, folder: Path, tmp_path: Path
) -> None:
    assert ended["explained"].code == 0, ended["explained"].err
    found = from_json((folder / "results" / "explained.json").read_text())
    assert [(one.method, one.seed) for one in found] == [
        (method, seed) for method in ("SoRA", "full") for seed in (0, 1)
    ]
    sora, full = found[0], found[2]
    start = 2  # of the tiny network's six blocks
    assert [one.change > 0 for one in sora.moved] == [False] * start + [True] * 4
    assert all(one.change > 0 for one in full.moved)
    assert sora.similarity(targets=True)[:start] == pytest.approx([1.0] * start)
    assert full.similarity(targets=True)[-1] < 1.0
    drawn = {file.name for file in (folder / "figures").glob("*.svg")}
    assert {"tiny_differences.svg", "tiny_drift.svg"} < drawn
    text = (folder / "results" / "table.md").read_text()
    assert "weights moved" in text
    assert text in (folder / "page.md").read_text()
    # Another machine, without the checkpoints, shows what is kept.
    shutil.copytree(folder / "results", tmp_path / "results")
    for name in ("study.yaml", "page.md"):
        shutil.copy(folder / name, tmp_path)
    assert started(toy, tmp_path, "shown").wait(SECONDS).code == 0
    assert "weights moved" in (tmp_path / "page.md").read_text()


def test_results_of_another_setting_are_refused(
    ended: dict[str, Ended], toy: Path, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder / "results", other / "results")
    text = study_text().replace("train.max_iter: 3", "train.max_iter: 2")
    (other / "study.yaml").write_text(text)
    (other / "page.md").write_text("")
    refused = started(toy, other, "refused").wait(SECONDS)
    assert refused.code == 1
    assert refused.err.splitlines()[-1].startswith("error: 6 results in ")
    assert "(different: config)" in refused.err
    wrong = started(toy, other, "wrong", "train.seed=3").wait(SECONDS)
    assert "error: 'train.seed=3' is no matter of the machine" in wrong.err
