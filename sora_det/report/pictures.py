"""Images of the gallery: a small JPEG, with boxes drawn over it as SVG."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..evaluation.ap import Array
from ..untrusted.pictures import open_picture
from .gallery import Boxes, boxes_on, tally
from .html import Markup, tag
from .judged import Judged
from .labels import Label, place
from .words import count, fraction

SIDE = 480  # pixels, of the longer side of a thumbnail
QUALITY = 80  # of JPEG, 0..100


def thumbnail(file: Path) -> str | None:
    """Return an image at most `SIDE` pixels wide and high as a data URI, None if unreadable."""
    try:
        with open_picture(file):  # its header is that of an image, and of one that fits
            pass
        # Not cv2.imread: it cannot open every name on every system, and warns instead of failing.
        raw = np.fromfile(file, dtype=np.uint8)
    except Exception:  # Pillow raises what its parsers do, of many types
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
        _layer(boxes_on(judged, image), data.classes, number, data.size[image])
        for number, (_, judged) in enumerate(runs)
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
        tag("span", text, data_run=number, hidden=number > 0) for number, text in enumerate(said)
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


def _layer(boxes: Boxes, classes: Sequence[str], number: int, size: Array) -> Markup:
    """Draw the boxes of one run; letters are sized for a picture of about 300 pixels."""
    width, height = (float(v) for v in size)
    letters = max(width, height) / 29
    rows = [*zip(*boxes.right, strict=True), *zip(*boxes.wrong, strict=True)]
    looks = ["right"] * len(boxes.right[1]) + ["wrong"] * len(boxes.wrong[1])
    ranked = sorted(zip(rows, looks, strict=True), key=lambda row: -float(row[0][2]))
    named = [
        Label(f"{classes[int(label)]} {float(score):.2f}".replace(" 0.", " ."), _four(box), look)
        for (box, label, score), look in ranked
    ]
    named += [
        Label(classes[int(label)], _four(box), "missed")
        for box, label in zip(*boxes.missed, strict=True)
    ]
    texts: dict[bool, list[Markup]] = {True: [], False: []}
    for put in place(named, width, height, letters):
        text = tag("text", put.label.text, x=put.x, y=put.y, class_=put.label.look)
        texts[put.label.look == "missed"].append(text)
    truth = [
        *_rectangles(boxes.ignored[0], "ignored"),
        *_rectangles(boxes.found[0], "found"),
        *_rectangles(boxes.missed[0], "missed"),
    ]
    predictions = [
        *_rectangles(boxes.neutral[0], "neutral"),
        *_rectangles(boxes.wrong[0], "wrong"),
        *_rectangles(boxes.right[0], "right"),
    ]
    return tag(
        "g",
        tag("g", truth, class_="truth"),
        tag("g", predictions, class_="pred"),
        tag("g", tag("g", texts[True], class_="labels"), class_="truth"),
        tag("g", tag("g", texts[False], class_="labels"), class_="pred"),
        data_run=number,
        font_size=letters,
        class_=None if number == 0 else "off",
    )


def _four(box: Array) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box.tolist()
    return x1, y1, x2, y2


def _rectangles(boxes: Array, kind: str) -> list[Markup]:
    """Draw every box twice: a dark line under the coloured one stands out from any image."""
    drawn = []
    for x1, y1, x2, y2 in boxes.astype(float).tolist():
        where = {"x": round(x1, 1), "y": round(y1, 1)}
        size = {"width": round(max(x2 - x1, 0.1), 1), "height": round(max(y2 - y1, 0.1), 1)}
        drawn += [tag("rect", class_=look, **where, **size) for look in ("under", kind)]
    return drawn
