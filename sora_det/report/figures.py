"""Plots that the analyses left in a run's folder, as images that a page can hold."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIMIT = 600_000  # bytes; a larger SVG gives way to its PNG
KINDS = {"sora_det.spectrum": "spectrum", "sora_det.forgetting": "forgetting"}
TITLES = {
    "spectra": "Singular values of the layers",
    "movement": "How far training has moved the weights",
    "features": "What features lose without some singular components",
    "scores": "What scores lose without some singular components",
    "forgetting": "How similar features are to the pretrained ones",
}
TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        title: what it shows.
        place: its file, below the run's folder.
        uri: the whole image as a data URI; empty if it is too large.
    """

    title: str
    place: str
    uri: str


def read_plots(folder: Path) -> list[Plot]:
    """Find the plots beside every spectrum.json and forgetting.json below a run's folder.

    An SVG becomes an image of its own, not part of the page: nothing in it can run or load.
    """
    plots = []
    for report in _reports(folder):
        for svg in sorted(report.parent.glob("*.svg")):
            if svg.stem in TITLES:
                place = svg.relative_to(folder).as_posix()
                plots.append(Plot(TITLES[svg.stem], place, _uri(svg)))
    return plots


def _reports(folder: Path) -> Iterator[Path]:
    """Yield one report of the analyses per folder."""
    seen = set()
    for file in sorted(folder.rglob("*.json")):
        if file.stem in KINDS.values() and file.parent not in seen and _is_report(file):
            seen.add(file.parent)
            yield file


def _is_report(file: Path) -> bool:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("format") in KINDS


def _uri(svg: Path) -> str:
    for file in (svg, svg.with_suffix(".png")):
        if file.is_file() and file.stat().st_size <= LIMIT:
            code = base64.b64encode(file.read_bytes()).decode()
            return f"data:{TYPES[file.suffix]};base64,{code}"
    return ""
