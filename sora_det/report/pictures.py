"""Images of the gallery: a small JPEG, with boxes drawn over it as SVG."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..evaluation.ap import Array
from .gallery import Boxes, boxes_on, tally
from .html import Markup, tag
from .judged import Judged
from .words import count, fraction

SIDE = 480  # pixels, of the longer side of a thumbnail
QUALITY = 80  # of JPEG, 0..100


def thumbnail(file: Path) -> str | None:
    """Return an image at most `SIDE` pixels wide and high as a data URI, None if unreadable."""
    try:
        # Not cv2.imread: it cannot open every name on every system, and warns instead of failing.
        raw = np.fromfile(file, dtype=np.uint8)
    except (OSError, ValueError):
        return None
    try:
        image = cv2.imdecode(raw, cv2.IMREAD_COLOR) if len(raw) else None
    except cv2.error:
        return None
    if image is None:
        return None
    scale = SIDE / max(image.shape[:2])
    if scale < 1:
        size = [max(1, round(side * scale)) for side in (image.shape[1], image.shape[0])]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    done, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(code.tobytes()).decode()}" if done else None


def picture(runs: Sequence[tuple[str, Judged]], image: int, root: Path | None) -> Markup | None:
    """Return one image with ground truth and the predictions of every run; None without the file.

    Args:
        runs: name of a run and its verdicts in this domain. All must list the same images; the
            first one's boxes are seen, the others' are hidden.
        image: its index.
        root: folder of the images, None for the one that was written down.
    """
    data = runs[0][1].data
    name = data.files[image]
    uri = thumbnail((root or Path(data.root)) / name) if name else None
    if uri is None:
        return None
    width, height = (float(v) for v in data.size[image])
    said = [_outcome(judged, image) for _, judged in runs]
    layers = [
        _layer(boxes_on(judged, image), data.classes, place, max(width, height))
        for place, (_, judged) in enumerate(runs)
    ]
    overlay = tag(
        "svg",
        layers,
        viewBox=f"0 0 {width:g} {height:g}",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    words = f"{data.domain}, image {data.ids[image]}: {said[0]}"
    shown = tag("img", src=uri, alt=words, width=int(width), height=int(height), decoding="async")
    captions = [
        tag("span", said[place], data_run=place, hidden=place > 0) for place in range(len(runs))
    ]
    return tag(
        "figure",
        tag("div", shown, overlay, class_="photo"),
        tag("figcaption", tag("b", data.ids[image], class_="id"), captions),
        class_="shot",
    )


def _outcome(judged: Judged, image: int) -> str:
    counts = tally(judged)
    right, wrong, missed = (int(c[image]) for c in (counts.right, counts.wrong, counts.missed))
    f1 = float(counts.f1[image])
    if np.isnan(f1):
        return "nothing to find, nothing predicted"
    return f"F1 {fraction(f1)}: {right} found, {missed} missed, {count(wrong, 'false alarm')}"


def _layer(boxes: Boxes, classes: Sequence[str], place: int, side: float) -> Markup:
    """Draw the boxes of one run; letters are sized for a picture of about 300 pixels."""
    size = side / 27
    truth = [
        *_rectangles(*boxes.ignored, "ignored"),
        *_rectangles(*boxes.found, "found"),
        *_rectangles(*boxes.missed, "missed"),
    ]
    names = _labels(*boxes.missed, None, classes, "missed", size)
    predictions, scores = [], []
    for kind, (box, label, score) in (
        ("neutral", boxes.neutral),
        ("right", boxes.right),
        ("wrong", boxes.wrong),
    ):
        predictions += _rectangles(box, label, kind)
        scores += _labels(box, label, score, classes, kind, size)
    return tag(
        "g",
        tag("g", truth, tag("g", names, class_="labels"), class_="truth"),
        tag("g", predictions, tag("g", scores, class_="labels"), class_="pred"),
        data_run=place,
        font_size=size,
        class_=None if place == 0 else "off",
    )


def _rectangles(boxes: Array, _labels: Array, kind: str) -> list[Markup]:
    """Draw every box twice: a dark line under the coloured one stands out from any image."""
    drawn = []
    for x1, y1, x2, y2 in boxes.astype(float).tolist():
        place = {"x": round(x1, 1), "y": round(y1, 1)}
        size = {"width": round(max(x2 - x1, 0.1), 1), "height": round(max(y2 - y1, 0.1), 1)}
        drawn += [tag("rect", class_=c, **place, **size) for c in ("under", kind)]
    return drawn


def _labels(
    boxes: Array,
    labels: Array,
    scores: Array | None,
    classes: Sequence[str],
    kind: str,
    size: float,
) -> list[Markup]:
    """Write classes above predictions, with their scores, and below ground truth."""
    written = []
    for row, (x1, y1, _, y2) in enumerate(boxes.astype(float).tolist()):
        text = classes[int(labels[row])]
        if scores is None:
            y = y2 + 0.9 * size
        else:
            text += f" {float(scores[row]):.2f}".replace(" 0.", " .")
            y = max(y1 - 0.25 * size, 0.85 * size)
        written.append(tag("text", text, x=round(x1, 1), y=round(y, 1), class_=kind))
    return written
