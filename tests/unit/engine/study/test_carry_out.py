"""What is started, kept, skipped and refused, with runs that end at once."""

import logging
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sora_det.engine.stop import DIVERGED, STOPPED
from sora_det.engine.study.carry import Kept, carry_out, forecast, spent
from sora_det.engine.study.configure import Key
from sora_det.engine.study.jobs import Ended, Job
from sora_det.engine.study.plan import Run
from sora_det.engine.study.read import Study, read_study
from sora_det.engine.study.result import Result, read_result
from sora_det.engine.study.summarise import insert, summarise
from tests.tools.report_runs import write_run
from tests.tools.study_text import STUDY


@pytest.fixture
def study(tmp_path: Path) -> Study:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    return read_study(file)


class Configs:
    """Keys and folders without configs."""

    def __init__(self, work: Path, data: str = "data") -> None:
        self.work, self.data = work, data

    def key(self, run: Run) -> Key:
        return Key(str(run), self.data, "")

    def folder(self, run: Run) -> Path:
        return self.work / run.name

    def write(self, run: Run) -> Path:
        self.folder(run).mkdir(parents=True, exist_ok=True)
        (self.folder(run) / "run.txt").write_text(run.name)
        return self.folder(run) / "run.txt"


class Starts:
    """Ends every run at once, and leaves what a training leaves; keeps their names."""

    threads = 1

    def __init__(self, codes: dict[str, int] | None = None) -> None:
        self.codes, self.names = codes or {}, list[str]()

    def __call__(self, arguments: Sequence[str], folder: Path) -> Job:
        name = folder.name
        self.names.append(name)
        code = self.codes.get(name, 0)
        if code == 0:
            made = write_run(folder / "made", pictures=False, replicates=0)
            for file in made.iterdir():
                file.rename(folder / file.name)
        return Over(code)


class Over:
    def __init__(self, code: int) -> None:
        self.code = code

    def ended(self) -> Ended:
        return Ended(self.code, 2.0)

    def stop(self) -> None:
        self.code = STOPPED


def kept(study: Study, folder: Path, *, data: str = "data", redo: bool = False) -> Kept:
    configs = Configs(folder / "work", data)
    return Kept(study, configs, folder / "results", redo=redo)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sora_det.engine.study.carry.wait_a_little", lambda: None)
    monkeypatch.setattr("sora_det.engine.study.result.REPLICATES", 20)


def test_a_whole_study_and_its_second_start(study: Study, tmp_path: Path) -> None:
    first = Starts()
    found = carry_out(kept(study, tmp_path), start=first, at_once=2)
    # All scores are equal: the lowest rate wins, and further ones are tried up to the limit.
    assert len(first.names) == 2 * 5 + 2 * 2
    assert len(set(first.names)) == len(first.names)
    files = sorted((tmp_path / "results").glob("*.json"))
    assert len(files) == len(found) == 14
    assert all(read_result(file) in found.values() for file in files)
    again = Starts()
    assert carry_out(kept(study, tmp_path), start=again, at_once=2) == found
    assert not again.names


def test_only_what_is_missing_is_made(study: Study, tmp_path: Path) -> None:
    carry_out(kept(study, tmp_path), start=Starts(), at_once=1)
    (tmp_path / "results" / "SoRA-final-seed1.json").unlink()
    shutil.rmtree(tmp_path / "work")
    again = Starts()
    carry_out(kept(study, tmp_path), start=again, at_once=1)
    assert again.names == ["SoRA-final-seed1"]


def test_runs_of_another_study_are_not_made_again(study: Study, tmp_path: Path) -> None:
    configs = Configs(tmp_path / "work")
    other = Kept(study, configs, tmp_path / "results" / "small", redo=False)  # type: ignore[arg-type]
    carry_out(other, start=Starts(), at_once=1)
    wider = replace(study, name="wider", seeds=(0, 1, 2))
    plan, mine = (
        Kept(wider, configs, tmp_path / "results" / "wider", redo=False)  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert len(plan.borrow()) == 14
    assert not list((tmp_path / "results" / "wider").glob("*"))  # only looked at
    again = Starts()
    found = carry_out(mine, start=again, at_once=1)
    assert again.names == ["SoRA-final-seed2", "frozen-final-seed2"]
    one = found[Run("SoRA", "final", 1.1e-05, 0)]
    assert (one.study, one.borrowed_from) == ("wider", "small/SoRA-final-seed0")
    assert spent(found).endswith("CPU-hours spent, 14 runs taken from other studies")
    assert read_result(mine.file(one.run)) == one
    # Another method's name does not matter, other data do.
    renamed = replace(wider, name="third", methods=(replace(study.methods[0], name="minor"),))

    class Renamed(Configs):
        def key(self, run: Run) -> Key:
            return super().key(replace(run, method="SoRA"))

    for data, count in (("data", 8), ("other", 0)):
        third = Kept(
            renamed, Renamed(tmp_path / "w", data), tmp_path / "results" / "third", redo=False
        )  # type: ignore[arg-type]
        assert len(third.borrow()) == count


def test_a_damaged_result_of_another_study_is_passed_over(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "results" / "small" / "SoRA-search-lr0.0001-seed9.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    mine = Kept(study, Configs(tmp_path), tmp_path / "results" / "mine", redo=False)  # type: ignore[arg-type]
    assert not mine.borrow()


def test_a_run_that_ended_unseen_is_taken_over(study: Study, tmp_path: Path) -> None:
    carry_out(kept(study, tmp_path), start=Starts(), at_once=1)
    file = tmp_path / "results" / "SoRA-final-seed1.json"
    before = read_result(file)
    file.unlink()
    again = Starts()
    carry_out(kept(study, tmp_path), start=again, at_once=1)
    assert not again.names
    assert read_result(file) == replace(before, seconds=None, cpu_seconds=None)


def test_results_of_something_else_are_refused(study: Study, tmp_path: Path) -> None:
    carry_out(kept(study, tmp_path), start=Starts(), at_once=1)
    with pytest.raises(ValueError, match=r"results in .* are of something else.*different: data"):
        carry_out(kept(study, tmp_path, data="other"), start=Starts(), at_once=1)
    again = Starts()
    other = replace(study, methods=study.methods[:1])
    redone = Kept(other, Configs(tmp_path / "w2", "other"), tmp_path / "results", redo=True)  # type: ignore[arg-type]
    carry_out(redone, start=again, at_once=1)
    assert len(again.names) == 7
    assert read_result(tmp_path / "results" / "SoRA-final-seed0.json").key.data == "other"


def test_a_file_that_is_no_result_is_named(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "results" / "SoRA-search-lr0.0001-seed9.json"
    file.parent.mkdir()
    file.write_text("{}")
    with pytest.raises(ValueError, match=r"lr0\.0001-seed9\.json is no result of a study"):
        kept(study, tmp_path).left()


def test_a_rate_that_diverges_counts_as_nothing(study: Study, tmp_path: Path) -> None:
    codes = {f"SoRA-search-lr{rate}-seed9": DIVERGED for rate in ("0.0001", "0.001")}
    runs = carry_out(kept(study, tmp_path), start=Starts(codes), at_once=1)
    found = {run: seeded(one) for run, one in runs.items()}
    finals = {r.rate for r in found.values() if (r.method, r.phase) == ("SoRA", "final")}
    assert finals == {3e-4}
    facts = summarise(study, found).facts
    assert any("Diverged" in fact and "rate 0.001" in fact for fact in facts)


def test_a_failed_run_is_named_after_all_others(study: Study, tmp_path: Path) -> None:
    start = Starts({"SoRA-search-lr0.0003-seed9": 1})
    with pytest.raises(RuntimeError, match=r"1 runs failed, such as SoRA, search, rate 0\.0003"):
        carry_out(kept(study, tmp_path), start=start, at_once=1)
    assert "frozen-final-seed1" in start.names
    assert "SoRA-final-seed0" not in start.names


def test_when_it_is_to_stop_the_runs_are_stopped(study: Study, tmp_path: Path) -> None:
    class Asked(Starts):
        def __call__(self, arguments: Sequence[str], folder: Path) -> Job:
            self.names.append(folder.name)
            os.kill(os.getpid(), signal.SIGTERM)
            return Over(0)

    start = Asked()
    with pytest.raises(SystemExit) as ended:
        carry_out(kept(study, tmp_path), start=start, at_once=1)
    assert ended.value.code == STOPPED
    assert len(start.names) == 1
    assert not (tmp_path / "results").exists()


def test_a_run_of_somebody_else_is_waited_for(study: Study, tmp_path: Path) -> None:
    class Busy(Starts):
        turns = 0

        def __call__(self, arguments: Sequence[str], folder: Path) -> Job | None:  # type: ignore[override]
            self.turns += 1
            return None if self.turns < 4 else super().__call__(arguments, folder)

    assert len(carry_out(kept(study, tmp_path), start=Busy(), at_once=1)) == 14


def test_the_forecast(study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    runs = kept(study, tmp_path)
    assert forecast(runs, runs.left(), at_once=2) == (
        "small: 0 runs are done, 6 or more of searches and 4 final ones are left; how long they "
        "take is known when the first has ended"
    )
    carry_out(runs, start=Starts(), at_once=2)
    taken = {run: replace(one, seconds=90.0) for run, one in runs.found.items()}
    runs.found = {run: one for run, one in taken.items() if run.phase == "search"}
    finals = [run for run in taken if run.phase == "final"]
    assert "about 3 min left with 2 at a time, 0.1 CPU-hours" in forecast(runs, finals, at_once=2)
    runs.found = taken
    assert forecast(runs, [], at_once=2).endswith("0.01 CPU-hours spent")


def test_the_summary(study: Study, tmp_path: Path) -> None:
    found = carry_out(kept(study, tmp_path), start=Starts(), at_once=1)
    runs = {run: seeded(one) for run, one in found.items()}
    summary = summarise(study, runs)
    assert [method.name for method in summary.comparison.methods] == ["SoRA", "frozen"]
    assert {one.method for one in summary.differences} == {"frozen"}
    assert all(one.mean == 0 and one.seeds == 2 for one in summary.differences)
    assert [one.at_edge for one in summary.searches] == [True, True]
    text = summary.to_markdown()
    assert "the last checkpoint is scored" in text
    assert "4 of 4 final runs are done, seeds 0, 1" in text
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- study small -->\nold\n<!-- end -->\nafter\n")
    insert(file, "small", text)
    assert file.read_text() == f"before\n<!-- study small -->\n\n{text}\n<!-- end -->\nafter\n"
    with pytest.raises(ValueError, match="has no block <!-- study other -->"):
        insert(file, "other", text)


def test_nothing_to_sum_up(study: Study) -> None:
    with pytest.raises(ValueError, match="small has no final run yet"):
        summarise(study, {})


def seeded(result: Result) -> Result:
    """Give a table the seed of its run, which the files of these tests lack."""
    if result.table is None:
        return result
    run = replace(result.table.run, seed=result.seed)
    return replace(result, table=replace(result.table, run=run))
