"""The section of pictures: the worst, some random and the best images of every domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .gallery import KINDS, pick
from .html import Markup, join, tag
from .judged import DEFAULT_THRESHOLD, Judged
from .looks import Look
from .pictures import picture
from .runs import Run
from .words import fraction

COUNT = 4  # images of a kind in a domain
SEED = 0
LOOKS = (
    ("found", "ground truth, found"),
    ("missed", "ground truth, missed"),
    ("right", "prediction, right"),
    ("wrong", "prediction, wrong"),
    ("ignored", "does not count"),
)


def album_section(runs: Sequence[Run], looks: Mapping[str, Look], *, root: Path | None) -> Markup:
    """Return the pictures.

    Args:
        runs: pictures are chosen by the first one that has detections; the predictions of those
            that list the same images can be switched to.
        looks: of the runs, by name.
        root: folder of the images, None for those that the runs name.
    """
    known = [run for run in runs if run.judged]
    absent = [tag("p", _named(r, len(runs)), class_="absent") for r in runs if r.absent]
    if not known:
        return join(absent)
    names = [looks[run.name].title for run in known]
    domains = [_domain(known, domain, root) for domain in known[0].judged]
    body = join(_intro(known[0], len(runs) > 1), _controls(names), domains)
    return join(absent, tag("div", body, class_="album"))


def _intro(run: Run, several: bool) -> Markup:
    first = next(iter(run.judged.values()))
    classes = run.table.protocol.classes
    pairs = zip(classes, first.thresholds, first.curves, strict=True)
    thresholds = ", ".join(
        f"{name} {fraction(value)}" + ("" if curve.best else f" (set to {DEFAULT_THRESHOLD})")
        for name, value, curve in pairs
    )
    who = f" of {run.name}" if several else ""
    also = (
        " Another run can be chosen; the images stay, and its own thresholds apply."
        if several
        else ""
    )
    return join(
        tag(
            "p",
            "Shown are predictions whose score reaches the class's threshold, that of the best F1 "
            f"on {first.data.domain}{who}: {thresholds}.{also}",
        ),
        tag(
            "p",
            "Images are ranked by their own F1 at these thresholds, all classes together: ",
            tag("b", "worst"),
            " have the lowest F1 (among equals, the most misses and false alarms), ",
            tag("b", "best"),
            " the highest (among equals, the most boxes found), ",
            tag("b", "random"),
            f" ones are drawn from all images of the domain with seed {SEED}. Images with nothing "
            "to find and nothing predicted are neither worst nor best.",
        ),
    )


def _controls(names: Sequence[str]) -> Markup:
    """Return the legend and what switches layers on and off."""
    keys = [
        tag(
            "li",
            tag(
                "svg",
                tag("rect", width=26, height=16, class_="behind"),
                tag("rect", x=3, y=3, width=20, height=10, class_="under"),
                tag("rect", x=3, y=3, width=20, height=10, class_=look),
                viewBox="0 0 26 16",
                class_="key",
                aria_hidden="true",
            ),
            words,
        )
        for look, words in LOOKS
    ]
    boxes = [
        tag(
            "label",
            tag("input", type="checkbox", checked=True, data_layer=layer, autocomplete="off"),
            f" {words}",
        )
        for layer, words in (
            ("truth", "ground truth"),
            ("pred", "predictions"),
            ("labels", "names"),
        )
    ]
    menu = None
    if len(names) > 1:
        options = [tag("option", name, value=place) for place, name in enumerate(names)]
        menu = tag(
            "label", "predictions of ", tag("select", options, data_runs=True, autocomplete="off")
        )
    return tag(
        "div",
        tag("ul", keys, class_="legend"),
        tag("div", boxes, menu, class_="switches screen", role="group", aria_label="what is drawn"),
        class_="controls",
    )


def _domain(known: Sequence[Run], domain: str, root: Path | None) -> Markup:
    first = known[0].judged[domain]
    layers = [
        (run.name, run.judged[domain])
        for run in known
        if domain in run.judged and run.judged[domain].data.ids == first.data.ids
    ]
    chosen = pick(first, count=COUNT, seed=SEED)
    groups, lost = [], 0
    for kind in KINDS:
        shots = [picture(layers, image, root) for image in chosen[kind]]
        lost += shots.count(None)
        if any(shots):
            groups.append(
                tag(
                    "div",
                    tag("h4", kind),
                    tag(
                        "div",
                        shots,
                        class_="shots",
                        role="group",
                        aria_label=f"{kind} of {domain}",
                        tabindex=0,
                    ),
                )
            )
    total = sum(map(len, chosen.values()))
    note = _lost(first, root, lost, total) if lost else None
    return tag("section", tag("h3", domain), note, groups, class_="domain")


def _lost(judged: Judged, root: Path | None, lost: int, total: int) -> Markup:
    where = str(root or judged.data.root) or "the folder they were in"
    which = "The image files of this domain" if lost == total else f"{lost} of {total} image files"
    return tag(
        "p",
        f"{which} cannot be read below {where}. If the images have moved, give their folder with "
        "--images FOLDER.",
        class_="absent",
    )


def _named(run: Run, runs: int) -> str:
    return run.absent if runs == 1 else f"{run.name}: {run.absent}"
