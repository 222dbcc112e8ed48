import json
from pathlib import Path

import pytest
from detectron2.utils.events import EventStorage

from sora_det.engine.metrics import kept_lines, recent_history, restore_history


def test_medians_go_on_where_they_were() -> None:
    with EventStorage(0) as whole:
        for whole.iter in range(30):
            whole.put_scalar("loss", whole.iter**2)
            whole.put_scalar("lr", whole.iter, smoothing_hint=False)
            if whole.iter < 25:
                whole.put_scalar("time", 1.0)
            if whole.iter == 24:
                kept = json.loads(json.dumps(recent_history(whole)))
    assert len(kept["loss"]["values"]) == 20
    assert "time" not in kept  # would stand in a line of its own until the timer has warmed up
    with EventStorage(25) as resumed:
        restore_history(resumed, kept)
        assert resumed.iter == 25
        for resumed.iter in range(25, 30):
            resumed.put_scalar("loss", resumed.iter**2)
            resumed.put_scalar("lr", resumed.iter, smoothing_hint=False)
    for window in (5, 20):
        found, want = (s.latest_with_smoothing_hint(window) for s in (resumed, whole))
        assert found == {name: value for name, value in want.items() if name != "time"}


def row(iteration: int) -> str:
    return json.dumps({"iteration": iteration, "loss": 1.0}) + "\n"


@pytest.mark.parametrize(
    ("text", "start", "kept"),
    [
        (row(1) + row(3) + row(5), 4, 2),
        (row(1) + row(3), 9, 2),
        (row(1) + row(3), 0, 0),
        (row(1) + row(3)[:-1], 9, 1),  # cut off before its end
        (row(1) + '{"iter', 9, 1),
        (row(1) + "[]\n" + row(2), 9, 1),
        ("", 9, 0),
    ],
)
def test_lines_that_stay(tmp_path: Path, text: str, start: int, kept: int) -> None:
    file = tmp_path / "metrics.json"
    file.write_text(text)
    assert kept_lines(file, start) == text.splitlines(keepends=True)[:kept]
    assert kept_lines(tmp_path / "none", start) == []
