"""Figures of the reports that `sora_det.engine.analysis` writes, drawn from their JSON alone."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from . import panels, plots

logger = logging.getLogger(__name__)

Document = Mapping[str, Any]


def draw(text: str, folder: str | Path) -> list[Path]:
    """Write every figure that a report holds numbers for, as SVG and PNG.

    Args:
        text: JSON, as the report's `to_json` gives it.
        folder: made if need be; older figures of these names in it are replaced.

    Returns:
        The files written.

    Raises:
        ValueError: another kind of document.
    """
    document = json.loads(text)
    kinds = {"sora_det.spectrum": spectrum, "sora_det.forgetting": forgetting}
    found = document.get("format") if isinstance(document, dict) else None
    if found not in kinds or document.get("version") != 1:
        raise ValueError(f"a report of format {' or '.join(kinds)}, version 1, is needed")
    figures = kinds[found](document)
    return [path for name, figure in figures.items() for path in panels.save(figure, folder, name)]


def write_report(text: str, folder: str | Path, name: str) -> None:
    """Write a report as `<name>.json` into `folder`, and its figures beside it; see `draw`."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.json").write_text(text, encoding="utf-8")
    drawn = draw(text, place)
    logger.info("%s: %s.json, %s", place, name, ", ".join(path.name for path in drawn))


def spectrum(document: Document) -> dict[str, Figure]:
    """Return the figures of a spectrum report by file name."""
    who, rank = _who(document), document["rank"]
    values = {s["name"]: s["values"] for s in document["spectra"]}
    figures = {"spectra": plots.spectra(values, title=f"Singular values\n{who}", minor=rank)}
    if document["movements"]:
        figures["movement"] = _movement(document)
    if document["removals"]:
        figures["features"] = _features(document)
    if document["scores"]:
        figures["scores"] = _scores(document)
    return figures


def forgetting(document: Document) -> dict[str, Figure]:
    """Return the figure of a forgetting report by file name."""
    kinds = {"cka": "as the next block reads them", "raw": "as they are"}
    figure = plots.similarity(
        {
            f"features {words}": {drift["domain"]: drift[kind] for drift in document["drifts"]}
            for kind, words in kinds.items()
        },
        title=f"Similarity to the pretrained features\n{_who(document)}, {_images(document)}",
        source=document["source"],
        first=document["first_block"],
    )
    return {"forgetting": figure}


def _movement(document: Document) -> Figure:
    moved = document["movements"]
    ranks = {m["rank"] for m in moved}
    some = str(ranks.pop()) if len(ranks) == 1 else "r"
    headings = [f"share of change in {end} {some} directions" for end in ("weakest", "strongest")]
    quantities = {
        "distance moved, as a share of the weight": {m["name"]: m["relative"] for m in moved},
        "effective rank of the change": {m["name"]: m["effective_rank"] for m in moved},
        headings[0]: {m["name"]: _either(m["minor"]) for m in moved},
        headings[1]: {m["name"]: _either(m["principal"]) for m in moved},
    }
    shares = [_either(m["chance"]) or 0.0 for m in moved]
    chance = (min(shares), max(shares))
    return plots.movement(
        quantities,
        title=f"How far training has moved the weights\n{_who(document)}",
        chance={heading: chance for heading in headings},
    )


def _features(document: Document) -> Figure:
    changes: dict[str, dict[plots.Removed, list[float | None]]] = {}
    for removal in document["removals"]:
        variants = changes.setdefault(removal["domain"], {})
        variants[removal["end"], removal["count"]] = removal["change"]
    title = f"Change of features without some singular components\n{_who(document)}"
    first = min(int(n) for n in re.findall(r"\bblocks\.(\d+)\.", " ".join(document["layers"])))
    return plots.feature_change(changes, title=f"{title}, {_images(document)}", first=first)


def _scores(document: Document) -> Figure:
    scores: dict[str, dict[plots.Removed, float | None]] = {}
    for score in document["scores"]:
        scores.setdefault(score["domain"], {})[score["end"], score["count"]] = score["ap50"]
    title = f"AP50 without some singular components\n{_who(document)}"
    return plots.scores_without(scores, title=title, source=document["source"])


def _either(overlap: Mapping[str, float] | None) -> float | None:
    """Share of a change that touches a subspace on the left, on the right or on both sides."""
    return None if overlap is None else overlap["left"] + overlap["right"] - overlap["both"]


def _who(document: Document) -> str:
    """Name the network and the method that trained it."""
    run = document["run"]
    name = str(document["network"]) or "the network"
    if run["checkpoint"]:
        return f"{name}, trained with {str(run['method']).partition('(')[0]}"
    return f"{name}, {'random' if run['random_init'] else 'as pretrained'}"


def _images(document: Document) -> str:
    counts = sorted({s["images"] for s in document["samples"]})
    shown = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{shown} images per domain"
