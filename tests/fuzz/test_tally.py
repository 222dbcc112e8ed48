"""What the long form notices, keeps and prints."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from scripts import fuzz as script
from tests.fuzz.tally import fuzz
from tests.fuzz.target import Target, execute
from tests.fuzz.targets import TARGETS

Read = Callable[[Path], object]


def target(read: Read) -> Target:
    return Target(lambda random: b"%d" % random.randrange(4), "a.txt", read)


def leaks(path: Path) -> None:
    {"0": 1, "1": 1}[path.read_text()]


def shouts(path: Path) -> None:
    logging.getLogger("sora_det.data").warning("\x1b[2J")


def test_a_reader_that_does_right(tmp_path: Path) -> None:
    found = fuzz(TARGETS["split"], range(50), folder=tmp_path / "a", kept=tmp_path / "b")
    assert found.executions == 50
    assert found.read > 0
    assert found.refused > 0
    assert not found.failed
    assert not (tmp_path / "b").exists()


def test_inputs_follow_from_their_numbers(tmp_path: Path) -> None:
    one, two = ([TARGETS["coco"].make(Random(n)) for n in range(50)] for _ in range(2))
    assert one == two
    assert len(set(one)) > 40


def test_a_reader_that_leaks(tmp_path: Path) -> None:
    found = fuzz(target(leaks), range(40), folder=tmp_path / "a", kept=tmp_path / "b")
    assert found.read > 0
    (kind,) = found.failed
    assert kind.startswith("KeyError at test_tally.py")
    assert found.read + found.failed[kind] == 40
    assert (tmp_path / "b" / "000-a.txt").read_text() in ("2", "3")
    assert "KeyError" in (tmp_path / "b" / "000.txt").read_text()


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda path: int("no"), "raised in"),
        (shouts, "not fit for a terminal"),
    ],
)
def test_what_counts_as_a_leak(tmp_path: Path, read: Read, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        execute(target(read), tmp_path, b"")


def test_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fuzz.py", "split", "leaks", "--executions", "30", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setitem(TARGETS, "leaks", target(leaks))
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 1
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows[1:3]] == [["split", "30"], ["leaks", "30"]]
    assert rows[1][-1] == "0"
    assert int(rows[2][-1]) == int(rows[3][0]) > 0
    assert (tmp_path / "leaks" / "000-a.txt").is_file()
