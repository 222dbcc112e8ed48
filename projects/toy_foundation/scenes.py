"""What pretraining looks at: drawn scenes, each in clear weather and in others, and restyled."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from sora_det.data.toy import WEATHERS, draw_scene, render

SIZE = 256  # pixels, as the benchmark draws them
VIEWS = 3  # pictures of a scene: clear, and two other weathers
CLEAR, *OTHERS = WEATHERS
SPLIT = 2  # place of "pretrain" among the splits of sora_det.data.toy: no benchmark has its seeds
SUNNY = 0.65  # share of the clear days with sunlight, as in the benchmark

Views = NDArray[np.uint8]  # (VIEWS, SIZE, SIZE, 3) RGB, the clear one first
Image = NDArray[Any]  # (size, size, 3) float32 RGB, 0..1


def draw_views(index: int, *, seed: int) -> Views:
    """Return one scene on a clear day and in two other weathers.

    Layout and objects are the same; only the clear day can have sunlight and cast shadows, as in
    the benchmark. Its seeds are those of `toy_image("daytime-clear", "pretrain", index)`.
    """
    entropy = np.random.SeedSequence([seed, 0, SPLIT, index])
    rng = np.random.default_rng(entropy)
    sunny = rng.random() < SUNNY
    scene = draw_scene(rng, size=SIZE, sunny=sunny)
    clear = render(scene, CLEAR, rng)
    if sunny:
        rng = np.random.default_rng(entropy)
        rng.random()
        scene = draw_scene(rng, size=SIZE, sunny=False)
    others = rng.choice(OTHERS, VIEWS - 1, replace=False)
    return np.stack([clear, *(render(scene, weather, rng) for weather in others)])


def draw_all(file: Path, count: int, *, seed: int, workers: int) -> NDArray[np.uint8]:
    """Draw `count` scenes into a .npy file, unless it is there, and map it: (count, *views)."""
    shape = (count, VIEWS, SIZE, SIZE, 3)
    if not file.is_file():
        part = file.with_suffix(".part")
        pictures = open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        cv2.setNumThreads(1)
        with ProcessPoolExecutor(workers) as pool:
            drawn = pool.map(partial(draw_views, seed=seed), range(count), chunksize=20)
            for index, views in enumerate(drawn):
                pictures[index] = views
        pictures.flush()
        part.rename(file)
    found = np.load(file, mmap_mode="r", allow_pickle=False)
    if found.shape != shape:
        raise ValueError(f"{file} holds {found.shape} instead of {shape}: delete it")
    return found


def look(views: Views, rng: np.random.Generator, *, size: int) -> tuple[Image, Image]:
    """Return a restyled crop in a random weather, and the same crop in clear weather."""
    side = round(SIZE * (1 - 0.4 * rng.random() ** 2))  # mostly near the whole, as in the benchmark
    top, left = rng.integers(0, SIZE - side + 1, 2)
    weather = int(rng.integers(len(views)))
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    crops = [
        cv2.resize(views[i, top : top + side, left : left + side], (size, size), interpolation=how)
        for i in (weather, 0)
    ]
    if rng.random() < 0.5:
        crops = [crop[:, ::-1] for crop in crops]
    seen, clear = (crop.astype(np.float32) / 255 for crop in crops)
    return restyle(seen, rng), clear


def restyle(image: Image, rng: np.random.Generator) -> Image:
    """Change gamma, contrast, colours and sharpness of an image, and add noise."""
    image = image ** np.float32(np.exp(rng.normal(0, 0.3)))
    image = image * np.exp(rng.normal(0, 0.12, 3)).astype(np.float32)
    grey = image.mean(axis=2, keepdims=True)
    colour = 0.0 if rng.random() < 0.15 else rng.uniform(0.3, 1.4)
    image = grey + np.float32(colour) * (image - grey)
    middle = image.mean(dtype=np.float32)
    image = middle + np.float32(rng.uniform(0.5, 1.3)) * (image - middle)
    image = image + np.float32(rng.normal(0, 0.05))
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.4))
    if rng.random() < 0.5:
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        image = image + np.float32(rng.uniform(0, 0.06)) * noise
    return np.clip(image, 0, 1)
