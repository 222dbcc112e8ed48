"""From images to flat arrays of detections, over one process or many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .ap import Array, Detections


@dataclass(frozen=True, eq=False)
class Found:
    """Detections of one process as flat arrays; `image` counts into `ids`."""

    ids: Array  # (images,) strings
    image: Array  # (N,) int32
    label: Array  # (N,) int32
    score: Array  # (N,) float32
    box: Array  # (N, 4) float32


class Collector:
    """Keeps the detections of one domain as arrays, image by image."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self.ids: list[str] = []
        self.counts: list[int] = []
        self.labels: list[Array] = [np.zeros(0, dtype=np.int32)]
        self.scores: list[Array] = [np.zeros(0, dtype=np.float32)]
        self.boxes: list[Array] = [np.zeros((0, 4), dtype=np.float32)]

    def add(self, image: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Take one of the loader's dictionaries and what a Detectron2 model made of it.

        Raises:
            ValueError: an image of another domain, or boxes that are not in the pixels of the
                size that the loader asked for.
        """
        if image.get("domain", self.domain) != self.domain:
            raise ValueError(
                f"the loader of domain {self.domain!r} gave image {image['image_id']!r} "
                f"of domain {image['domain']!r}"
            )
        found = output["instances"]
        size = (image["height"], image["width"])
        if tuple(found.image_size) != size:
            raise ValueError(
                f"boxes of image {image['image_id']!r} must be in pixels of its original size "
                f"(height, width) {size}, got {tuple(found.image_size)}"
            )
        self.ids.append(str(image["image_id"]))
        self.counts.append(len(found))
        self.labels.append(found.pred_classes.cpu().numpy().astype(np.int32))
        self.scores.append(found.scores.float().cpu().numpy())
        self.boxes.append(found.pred_boxes.tensor.float().cpu().numpy())

    def found(self) -> Found:
        return Found(
            ids=np.array(self.ids, dtype=str),
            image=np.repeat(np.arange(len(self.ids), dtype=np.int32), self.counts),
            label=np.concatenate(self.labels),
            score=np.concatenate(self.scores),
            box=np.concatenate(self.boxes),
        )


def merge(domain: str, known: Mapping[str, int], parts: Sequence[Found]) -> Detections:
    """Join the processes' detections; image indices become those of the ground truth.

    Args:
        domain: its name, for messages.
        known: index of every image of the domain.
        parts: what each process found.

    Raises:
        ValueError: an image that is unknown, came twice or never came.
    """
    ids = np.concatenate([part.ids for part in parts]).tolist()
    advice = "a test loader must give every image once over all processes"
    unknown = [name for name in ids if name not in known]
    if unknown:
        raise ValueError(f"{len(unknown)} images are not in domain {domain!r}: {unknown[:3]}")
    twice = [name for name, times in Counter(ids).items() if times > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} images of domain {domain!r} came more than once: {twice[:3]}; {advice}"
        )
    if len(ids) < len(known):
        missing = sorted(known.keys() - set(ids))
        raise ValueError(
            f"{len(missing)} of {len(known)} images of domain {domain!r} "
            f"were not evaluated: {missing[:3]}; {advice}"
        )
    index = np.array([known[name] for name in ids], dtype=np.int64)
    begin = np.cumsum([0] + [len(part.ids) for part in parts[:-1]])
    return Detections(
        image=index[np.concatenate([p.image + b for p, b in zip(parts, begin, strict=True)])],
        label=np.concatenate([part.label for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        box=np.concatenate([part.box for part in parts]),
    )
