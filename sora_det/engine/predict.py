"""A trained detector on images and videos of anybody's, to pictures and COCO's JSON."""

from __future__ import annotations

import copy
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.data import transforms as T
from omegaconf import DictConfig
from torch import nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..data.images import read_image
from ..data.loader import on_canvas
from ..data.media import Media, open_film
from ..evaluation.ap import Detections
from ..untrusted.text import shown
from .hooks import console_loggers
from .train import build, load_for_evaluation

logger = logging.getLogger(__name__)

DECIMALS = 6  # of a pixel: finer than float32 is from 16 pixels on
JSON = "predictions.json"

Draw = Callable[[np.ndarray, Detections], None]


class Viewer(Protocol):
    """Takes images, (height, width, 3) uint8 RGB, with what was found in them."""

    def picture(self, name: str, image: np.ndarray, found: Detections) -> None: ...

    def film(self, name: str, rate: float) -> AbstractContextManager[Draw]: ...


class Detector:
    """A detector of Detectron2 that takes images as arrays.

    Args:
        model: on its device; it is put into eval mode.
        classes: names by label.
        augmentations: of the test loader.
        score_threshold: detections of a lower score are left out.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: Sequence[str],
        augmentations: Sequence[T.Augmentation | T.Transform],
        score_threshold: float = 0.5,
    ) -> None:
        if not 0.0 <= score_threshold <= 1.0:
            raise ValueError(f"score_threshold must be in 0..1, got {score_threshold}")
        self.model, self.classes = model.eval(), tuple(classes)
        self.augmentations = T.AugmentationList(list(augmentations))
        self.score_threshold = score_threshold

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Detections:
        """Find objects in an image (height, width, 3), uint8 RGB; the best come first."""
        height, width = image.shape[:2]
        (output,) = self.model([on_canvas(image, self.augmentations)])
        found = output["instances"].to("cpu")
        keep = found.scores >= self.score_threshold
        box = found.pred_boxes.tensor[keep].float().numpy()
        limit = np.array([width, height, width, height], dtype=np.float32)
        return Detections(
            image=np.zeros(len(box), dtype=np.int64),
            label=found.pred_classes[keep].numpy(),
            score=found.scores[keep].float().numpy(),
            box=np.clip(box, 0.0, limit),
        )


def load_detector(
    cfg: DictConfig, *, checkpoint: str = "", score_threshold: float = 0.5
) -> Detector:
    """Build the detector of a config and load a checkpoint; the benchmark needs no images for it.

    The config must name the pretrained weights that the training had, if any: checkpoints leave
    out what these hold.

    Args:
        cfg: of a training run; it is not changed.
        checkpoint: file with the trained detector; else the one in `train.output_dir`.
        score_threshold: as in `Detector`.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: one that does not fit, or a threshold out of range.
    """
    cfg = copy.deepcopy(cfg)
    if checkpoint:
        cfg.train.init_checkpoint = checkpoint
    _spare_weights(cfg)
    benchmark, model = build(cfg)
    if not load_for_evaluation(cfg, model).get("checkpoint"):
        raise FileNotFoundError(
            "no trained detector: pass --checkpoint, or as train.output_dir the folder of a run; "
            f"{cfg.train.output_dir} holds none"
        )
    return Detector(
        model,
        classes=benchmark.classes,
        augmentations=instantiate(cfg.dataloader.test.augmentations),
        score_threshold=score_threshold,
    )


def _spare_weights(cfg: DictConfig) -> None:
    """Start from random numbers where no pretrained weights are given."""
    for node in (cfg.backbone, cfg.backbone.get("net")):
        if isinstance(node, DictConfig) and "random_init" in node:
            if not (node.get("weights") or node.get("pretrained")):
                node.random_init = True
            if node.random_init and "start_file" in cfg.adaptation:
                cfg.adaptation.start_file = None  # not worth keeping; a run's own would be replaced


@dataclass
class Document:
    """Detections as COCO writes them, gathered image by image.

    Attributes:
        classes: names by label; the category id is the label + 1.
        info: what is known of the detector, as plain values.
        images: entries of the images so far.
        found: their detections.
    """

    classes: Sequence[str]
    info: dict[str, Any] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    found: list[Detections] = field(default_factory=list)

    def add(self, name: str, image: np.ndarray, found: Detections, **more: Any) -> None:
        height, width = image.shape[:2]
        number = len(self.images) + 1
        entry = {"id": number, "file_name": name, "width": width, "height": height}
        self.images.append(entry | more)
        self.found.append(found)

    def write(self, file: str | Path) -> Path:
        """Write one line per image and detection, all or nothing."""
        path = Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.part")
        categories = [{"id": i, "name": name} for i, name in enumerate(self.classes, 1)]
        lists = {
            "categories": categories,
            "images": self.images,
            "annotations": self._annotations(),
        }
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(f'{{"info": {_json(self.info)}')
            for name, entries in lists.items():
                stream.write(f',\n"{name}": [')
                for index, entry in enumerate(entries):
                    stream.write((",\n" if index else "\n") + _json(entry))
                stream.write("]")
            stream.write("}\n")
        os.replace(draft, path)
        return path

    def _annotations(self) -> Iterator[dict[str, Any]]:
        number = 0
        for image, found in zip(self.images, self.found, strict=True):
            corners = found.box.astype(np.float64)
            size = corners[:, 2:] - corners[:, :2]
            boxes = np.concatenate([corners[:, :2], size], axis=1).round(DECIMALS).tolist()
            areas = size.prod(axis=1).round(DECIMALS).tolist()
            scores = [float(str(score)) for score in found.score]  # the shortest that gives it back
            for label, box, area, score in zip(
                found.label.tolist(), boxes, areas, scores, strict=True
            ):
                number += 1
                yield {
                    "id": number,
                    "image_id": image["id"],
                    "category_id": label + 1,
                    "bbox": box,
                    "area": area,
                    "iscrowd": 0,
                    "score": score,
                }


def predict(
    detector: Detector, media: Sequence[Media], document: Document, *, viewer: Viewer | None = None
) -> list[str]:
    """Run a detector over images and videos.

    Args:
        detector: what to run.
        media: what to look at, in this order; frames of videos become images of their own.
        document: is given all detections.
        viewer: is given all images, with their detections.

    Returns:
        What could not be read, one message each; all others are done.
    """
    failed = []
    bar = partial(tqdm, disable=None, leave=False)
    with ExitStack() as stack:
        if sys.stderr.isatty():  # what is logged goes above the bars
            stack.enter_context(logging_redirect_tqdm(console_loggers()))
        for one in bar(media, desc="detecting", unit="file"):
            try:
                if one.video:
                    frames = partial(bar, desc=shown(one.name), unit="frame")
                    _film(detector, one, document, viewer, frames)
                    continue
                image = read_image(one.file)
            except ValueError as error:
                failed.append(str(error))
                logger.warning("%s", error)
                continue
            found = detector(image)
            document.add(one.name, image, found)
            if viewer is not None:
                viewer.picture(one.name, image, found)
    return failed


def _film(
    detector: Detector,
    media: Media,
    document: Document,
    viewer: Viewer | None,
    bar: Callable[..., Any],
) -> None:
    with ExitStack() as stack:
        film = stack.enter_context(open_film(media.file))
        draw = stack.enter_context(viewer.film(media.name, film.rate)) if viewer else None
        for index, image in enumerate(bar(film.frames, total=film.length)):
            found = detector(image)
            name = f"{media.name}/{index:06d}"
            document.add(name, image, found, video=media.name, frame=index)
            if draw is not None:
                draw(image, found)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
