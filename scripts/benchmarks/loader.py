"""Images through the training augmentation, beside Detectron2's DatasetMapper."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from sora_det.data import PadTo, PhotoMetricDistortion
from sora_det.data.images import read_image
from sora_det.data.loader import TrainMapper
from sora_det.data.order import random_numbers
from sora_det.data.toy import toy_image

from .results import Result
from .timing import in_turns, ratio, step_clock

WEATHERS = ("daytime-clear", "Night-Sunny", "dusk-rainy", "night-rainy", "daytime-foggy")
DRAWS = 8  # of every image


def loader(
    repetitions: int, *, images: int = 10, draws: int = DRAWS, size: tuple[int, int] = (1280, 720)
) -> Result:
    """Read, augment and pad drawn scenes with the noise of a camera, stored as JPEG.

    Args:
        repetitions: of each way.
        images: different ones.
        draws: of the augmentation, for each image.
        size: of the images, in pixels.
    """
    threads = cv2.getNumThreads()
    with tempfile.TemporaryDirectory() as folder:
        records = [write_image(Path(folder), i, size) for i in range(images)]
        stored = sum(Path(record["file_name"]).stat().st_size for record in records)
        canvas = 1024 * size[0] // 1280
        ours = TrainMapper(policy(canvas, PhotoMetricDistortion()))
        theirs = DatasetMapper(
            True, augmentations=policy(canvas, PlainDistortion()), image_format="RGB"
        )
        cv2.setNumThreads(1)
        try:
            timings = in_turns(
                {
                    "DatasetMapper": lambda: run(theirs, records, draws),
                    "ours": lambda: run(ours, records, draws),
                    "decoding alone": lambda: run(_decode, records, draws),
                },
                repetitions,
                clock=step_clock(),
            )
        finally:
            cv2.setNumThreads(threads)
        facts = differences(ours, theirs, records, draws)
    count = images * draws
    rates = {f"images a second, {one.name}": f"{count / one.median:.0f}" for one in timings}
    return Result(
        "loader",
        f"{count} images of {size[0]} x {size[1]} and {stored / images / 1000:.0f} kB, scaled, "
        f"cropped, mirrored, padded to {canvas} x {canvas}, colours changed",
        timings,
        [ratio(timings[0], timings[1]), ratio(timings[1], timings[2])],
        rates | facts,
    )


def policy(canvas: int, colours: T.Augmentation) -> list[T.Augmentation]:
    """Return the augmentations of `configs/common/data/crop_1024.py`."""
    return [
        T.ResizeScale(min_scale=0.1, max_scale=2.0, target_height=canvas, target_width=canvas),
        T.RandomCrop(crop_type="absolute", crop_size=(canvas, canvas)),
        T.RandomFlip(prob=0.5),
        PadTo(size=canvas, value=114.0),
        colours,
    ]


class PlainDistortion(PhotoMetricDistortion):
    """The same changes of colour one after the other, as MMDetection's code makes them."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        drawn = super().get_transform(image)
        return T.ColorTransform(partial(plain_distort, **drawn.op.keywords))


def plain_distort(
    image: np.ndarray,
    *,
    brightness: float = 0.0,
    contrast: float = 1.0,
    contrast_first: bool = True,
    saturation: float = 1.0,
    hue: float = 0.0,
    order: Sequence[int] = (0, 1, 2),
) -> np.ndarray:
    image = image.astype(np.float32) + brightness
    if contrast_first:
        image = image * contrast
    if saturation != 1.0 or hue != 0.0:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + hue) % 360
        hsv[..., 1] = hsv[..., 1] * saturation
        if saturation > 1.0:
            np.clip(hsv[..., 1], 0.0, 1.0, out=hsv[..., 1])
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if not contrast_first:
        image = image * contrast
    return image if tuple(order) == (0, 1, 2) else image[..., list(order)]


def write_image(folder: Path, place: int, size: tuple[int, int]) -> dict[str, Any]:
    """Draw a scene, stretch it, add noise, store it with quality 90; return its record."""
    width, height = size
    scene = toy_image(WEATHERS[place % len(WEATHERS)], "train", place, size=height)
    image = cv2.resize(scene[0], size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    rng = np.random.default_rng(place)
    noise = np.multiply(10, rng.standard_normal((height, width, 3), dtype=np.float32))
    noise = cv2.GaussianBlur(noise, (0, 0), 0.8)
    file = folder / f"{place}.jpg"
    Image.fromarray(np.clip(image + noise, 0, 255).astype(np.uint8)).save(file, quality=90)
    corner = rng.uniform(0, 0.8, (10, 2)) * size
    box = np.concatenate([corner, corner + rng.uniform(0.02, 0.2, (10, 2)) * size], axis=1)
    return {
        "file_name": str(file),
        "image_id": str(place),
        "width": width,
        "height": height,
        "annotations": [
            {"bbox": one, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 0}
            for one in box.round().tolist()
        ],
    }


def run(mapper: Callable[[Any], object], records: Sequence[dict[str, Any]], draws: int) -> None:
    for draw in range(draws):
        for place, record in enumerate(records):
            with random_numbers("benchmark", place, draw):
                mapper(record)


def _decode(record: dict[str, Any]) -> np.ndarray:
    return read_image(record["file_name"])


def differences(
    ours: Callable[[Any], Any],
    theirs: Callable[[Any], Any],
    records: Sequence[dict[str, Any]],
    draws: int,
) -> dict[str, str]:
    """Say how the images and the boxes of two mappers differ."""
    mean, most, boxes, changed = 0.0, 0.0, 0.0, 0.0
    for draw in range(draws):
        for place, record in enumerate(records):
            found = []
            for mapper in (ours, theirs):
                with random_numbers("benchmark", place, draw):
                    found.append(mapper(record))
            image = (found[0]["image"] - found[1]["image"]).abs()
            mean += float(image.mean()) / draws / len(records)
            changed += float((image > 0.01).float().mean()) / draws / len(records)
            most = max(most, float(image.max()))
            one, other = (sample["instances"].gt_boxes.tensor for sample in found)
            boxes = max(boxes, *(one - other).abs().flatten().tolist(), 0.0)
    return {
        "mean difference of the values, of 255": f"{mean:.4f}",
        "values that differ by more than 0.01": f"{100 * changed:.2f} %",
        "largest difference of a value": f"{most:.2f}",
        "largest difference of a box, in pixels": f"{boxes:g}",
    }
