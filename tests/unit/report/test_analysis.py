"""Figures from a report's JSON: which, under what titles, and refusals of anything else."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sora_det.report.analysis import draw, forgetting, spectrum, write_report

NETWORK = "vit_large_patch14_reg4_dinov2.lvd142m"
KINDS = ("attn.q", "attn.k", "attn.v", "attn.proj", "mlp.fc1", "mlp.fc2")
MATRICES = [f"blocks.{block}.{kind}" for block in (2, 3) for kind in KINDS]
DOMAINS = ("daytime-clear", "daytime-foggy")


def run(**changes: Any) -> dict[str, Any]:
    start = {"checkpoint": "model_final.pth", "method": "SoRA(rank=128)", "random_init": False}
    return {**start, **changes}


def moved(name: str, rank: int = 128) -> dict[str, Any]:
    share = {"left": 0.5, "right": 0.25, "both": 0.125}
    return {
        "name": name, "relative": 0.1, "effective_rank": 3.0, "rank": rank,
        "minor": share, "principal": None, "chance": {"left": 0.2, "right": 0.1, "both": 0.02},
    }  # fmt: skip


def spectrum_document(**changes: Any) -> dict[str, Any]:
    start = {
        "format": "sora_det.spectrum",
        "version": 1,
        "run": run(),
        "network": NETWORK,
        "layers": ["blocks.2.attn.qkv", "blocks.10.mlp.fc1"],
        "rank": 128,
        "source": DOMAINS[0],
        "spectra": [{"name": name, "values": [2.0, 1.0, 0.5]} for name in MATRICES],
        "movements": [moved(name) for name in MATRICES],
        "samples": [{"domain": domain, "images": 3} for domain in DOMAINS],
        "removals": [
            {"domain": domain, "end": end, "count": 4, "change": [0, None, 0.5, 0.7]}
            for domain in DOMAINS
            for end in ("principal", "minor")
        ],
        "scores": [
            {"domain": domain, "end": end, "count": count, "ap50": 40.0 - count}
            for domain in DOMAINS
            for end in ("principal", "minor")
            for count in (0, 4)
        ],
    }
    return {**start, **changes}


def forgetting_document(**changes: Any) -> dict[str, Any]:
    start = {
        "format": "sora_det.forgetting",
        "version": 1,
        "run": run(),
        "network": NETWORK,
        "source": DOMAINS[0],
        "first_block": 2,
        "samples": [{"domain": DOMAINS[0], "images": 3}, {"domain": DOMAINS[1], "images": 2}],
        "drifts": [{"domain": d, "cka": [1, 1, 0.9], "raw": [1, 1, None]} for d in DOMAINS],
    }
    return {**start, **changes}


def heading(figure: Figure) -> str:
    found: Any = figure.get_suptitle()
    return " ".join(found.split())


def test_a_figure_for_everything_that_there_are_numbers_for() -> None:
    figures = spectrum(spectrum_document())
    assert list(figures) == ["spectra", "movement", "features", "scores"]
    assert heading(figures["features"]).endswith("trained with SoRA, 3 images per domain")
    bare = spectrum_document(movements=[], removals=[], scores=[], samples=[], rank=None)
    assert list(spectrum(bare)) == ["spectra"]
    assert list(forgetting(forgetting_document())) == ["forgetting"]


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (run(), "trained with SoRA"),
        (run(checkpoint=""), "as pretrained"),
        (run(checkpoint="", random_init=True), "random"),
    ],
)
def test_titles_say_what_is_shown(known: dict[str, Any], words: str) -> None:
    title = heading(spectrum(spectrum_document(run=known))["spectra"])
    assert title == f"Singular values {NETWORK}, {words}"


def test_images_of_domains_that_differ() -> None:
    figure = forgetting(forgetting_document())["forgetting"]
    assert "2 to 3 images per domain" in heading(figure)


def test_shares_count_what_touches_either_side_once() -> None:
    axes = spectrum(spectrum_document())["movement"].axes
    assert axes[2].get_title(loc="left") == "share of change in weakest 128 directions"
    (y, *_) = axes[2].get_lines()[0].get_ydata()
    assert y == 0.5 + 0.25 - 0.125
    band = axes[2].patches[0].get_extents().transformed(axes[2].transData.inverted())
    assert (band.y0 + band.y1) / 2 == pytest.approx(0.2 + 0.1 - 0.02)


def test_adapters_of_several_ranks() -> None:
    several = [moved(name, rank) for rank, name in enumerate(MATRICES, start=1)]
    figure = spectrum(spectrum_document(movements=several, rank=None))["movement"]
    assert figure.axes[3].get_title(loc="left") == "share of change in strongest r directions"


@pytest.mark.filterwarnings("error")  # matplotlib warns of a layout that it gives up
@pytest.mark.parametrize("name", ["spectra", "movement", "features", "scores", "forgetting"])
def test_titles_fit(name: str) -> None:
    figure = {**spectrum(spectrum_document()), **forgetting(forgetting_document())}[name]
    FigureCanvasAgg(figure).draw()
    titles = [axis._left_title for axis in figure.axes]  # type: ignore[attr-defined]
    boxes = [t.get_window_extent() for t in titles if t.get_text()]
    for index, box in enumerate(boxes):
        assert box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_report_is_written_beside_its_figures(tmp_path: Path) -> None:
    text = json.dumps(forgetting_document())
    write_report(text, tmp_path / "new", "forgetting")
    assert (tmp_path / "new" / "forgetting.json").read_text() == text
    found = sorted(file.name for file in (tmp_path / "new").iterdir())
    assert found == [f"forgetting.{kind}" for kind in ("json", "png", "svg")]


@pytest.mark.parametrize(
    "document",
    [[], {}, {"format": "novel", "version": 1}, spectrum_document(version=2)],
    ids=["list", "empty", "other format", "newer version"],
)
def test_other_documents_are_refused(document: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a report of format sora_det\.spectrum or .*, version 1"):
        draw(json.dumps(document), tmp_path)
    assert not list(tmp_path.iterdir())
