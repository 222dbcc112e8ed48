"""Figures show the numbers they are given, and nothing in them is cut off or on top of another."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from sora_det.report import panels, plots
from tests.tools.figures import check_texts, texts

DOMAINS = ("daytime-clear", "Night-Sunny", "dusk-rainy", "night-rainy", "daytime-foggy")
KINDS = ("attn.q", "attn.k", "attn.v", "attn.proj", "mlp.fc1", "mlp.fc2")
LONG = "Something about vit_large_patch14_reg4_dinov2.lvd142m\n" + "and what was done to it, " * 5
MATRICES = [f"blocks.{block}.{kind}" for block in range(6) for kind in KINDS]


def close_lines(count: int) -> dict[str, list[float | None]]:
    """Lines that end within a hundredth of each other."""
    return {
        domain: [1 - block / 10 + place / 1000 for block in range(count)]
        for place, domain in enumerate(DOMAINS)
    }


VALUES = {name: np.logspace(0, -3, 48).tolist() for name in MATRICES}
MOVED: Mapping[str, float | None] = {n: 0.1 + 0.01 * len(n) for n in MATRICES}


FIGURES: dict[str, Callable[[], Figure]] = {
    "spectra": lambda: plots.spectra(VALUES, title=LONG, minor=4),
    "one spectrum": lambda: plots.spectra({"fc": [2.0, 1.0, 0.0]}, title="One layer"),
    "movement": lambda: plots.movement(
        {"moved": MOVED, "share": MOVED}, title=LONG, chance={"share": (0.05, 0.1)}
    ),
    "movement, all of it in few directions": lambda: plots.movement(
        {
            "share of change in weakest 16 directions": dict.fromkeys(MATRICES, 1.0),
            "share of change in strongest 16 directions": dict.fromkeys(MATRICES, 0.0),
        },
        title=LONG,
        chance={"share of change in weakest 16 directions": (0.1, 0.2)},
    ),
    "features": lambda: plots.feature_change(
        {
            domain: {
                (end, count): [0, 0, *(count / 50 * (b + 1) for b in range(4))]
                for end in ("principal", "minor")
                for count in (1, 4, 16, 64)
            }
            for domain in DOMAINS
        },
        title=LONG,
        first=2,
    ),
    "scores": lambda: plots.scores_without(
        {
            domain: {
                (end, count): 40 - count / 4 - place
                for end in ("principal", "minor")
                for count in (0, 1, 16, 64)
            }
            for place, domain in enumerate(DOMAINS)
        },
        title=LONG,
        source="daytime-clear",
    ),
    "similarity": lambda: plots.similarity(
        {"as read": close_lines(6), "raw": close_lines(6)},
        title=LONG,
        source="daytime-clear",
        first=2,
    ),
}


each = pytest.mark.parametrize("name", FIGURES)


@each
def test_every_text_can_be_read(name: str) -> None:
    check_texts(FIGURES[name]())


@each
def test_saved_twice_is_the_same(name: str, tmp_path: Path) -> None:
    one = panels.save(FIGURES[name](), tmp_path / "one", name)
    two = panels.save(FIGURES[name](), tmp_path / "two", name)
    assert [path.name for path in one] == [f"{name}.svg", f"{name}.png"]
    for first, second in zip(one, two, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert "Something about" in one[0].read_text() or "One layer" in one[0].read_text()
    assert Image.open(one[1]).width > 400
    assert sorted(f.name for f in (tmp_path / "one").iterdir()) == sorted(p.name for p in one)


def lines(figure: Figure, axis: int = 0) -> list[list[float]]:
    return [list(np.asarray(line.get_ydata(), float)) for line in figure.axes[axis].get_lines()]


def test_spectra_show_every_value_but_zeros() -> None:
    figure = plots.spectra({"blocks.0.fc1": [2, 1, 0], "blocks.1.fc1": [3, 1, 0.5]}, title="")
    first, second = lines(figure)
    assert first[:2] == [2, 1]
    assert math.isnan(first[2])  # 0 has no logarithm
    assert second == [3, 1, 0.5]
    assert figure.axes[0].get_title(loc="left") == "fc1"


def test_panels_are_in_the_order_of_computation() -> None:
    names = {f"blocks.0.{kind}": [1.0] for kind in reversed(KINDS)}
    figure = plots.spectra(names, title="")
    assert [axis.get_title(loc="left") for axis in figure.axes[:6]] == list(KINDS)


def test_gaps_stay_gaps() -> None:
    figure = plots.similarity({"": {"a": [1.0, None, 0.5]}}, title="")
    (line,) = lines(figure)
    assert line[0] == 1.0
    assert math.isnan(line[1])
    assert line[2] == 0.5


def test_similarity_is_drawn_up_to_one() -> None:
    figure = plots.similarity({"": {"a": [0.99, 0.98]}}, title="")
    assert figure.axes[0].get_ylim() == (0, 1)


def test_domain_without_any_value() -> None:
    figure = plots.similarity({"": {"a": [None, None], "b": [1.0, 0.9]}}, title="")
    assert "b" in [t.get_text() for t in texts(figure)]


@pytest.mark.filterwarnings("error")  # matplotlib warns of a layout that it gives up
def test_chance_is_shown_where_nothing_has_moved(tmp_path: Path) -> None:
    figure = plots.movement(
        {"share": {n: None for n in MATRICES}}, title="", chance={"share": (3, 3)}
    )
    assert figure.axes[0].get_ylim()[1] > 3
    assert "chance" in [t.get_text() for t in texts(figure)]
    panels.save(figure, tmp_path, "nothing")


def test_domains_are_compared_at_one_scale() -> None:
    changes = {
        domain: {("minor", 1): [0.0, size], ("principal", 1): [0.0, 2 * size]}
        for domain, size in zip(DOMAINS, (0.01, 0.1, 1, 10, 100), strict=True)
    }
    figure = plots.feature_change(changes, title="")
    (limits,) = {axis.get_ylim() for axis in figure.axes}
    assert limits[0] < 0.01
    assert limits[1] > 200


def test_leader_lines_end_beside_the_names() -> None:
    figure = plots.similarity({"": close_lines(3)}, title="")
    found = texts(figure)
    for name in figure.axes[0].texts:
        assert isinstance(name, Annotation)
        assert name.arrow_patch is not None
        tip = name.arrow_patch.get_window_extent()
        assert tip.x1 <= found[name].x0 + 1


def test_source_is_black_and_the_others_differ() -> None:
    figure = plots.similarity({"": close_lines(3)}, title="", source="daytime-clear")
    colours = [line.get_color() for line in figure.axes[0].get_lines()]
    assert colours[0] == panels.BLACK
    assert len(set(colours)) == len(DOMAINS)


def test_older_files_survive_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = FIGURES["one spectrum"]()
    panels.save(figure, tmp_path, "plot")
    before = (tmp_path / "plot.svg").read_bytes()

    def fail(draft: Path, **_: object) -> None:
        Path(draft).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="no space left"):
        panels.save(figure, tmp_path, "plot")
    assert (tmp_path / "plot.svg").read_bytes() == before
