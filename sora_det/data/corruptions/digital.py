"""Light, lens distortion and compression. Parameters: Hendrycks and Dietterich 2019.

Every function takes (height, width, 3) uint8 RGB, a severity of 1 to 5 and a generator, and returns
numbers on the scale of the image, which may leave 0..255.
"""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from .filters import Array, gaussian


def brightness(image: Array, severity: int, rng: np.random.Generator) -> Array:
    """Add to HSV's value: hue and saturation stay, so that all three channels scale alike."""
    more = (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
    clean = image / 255.0
    value = clean.max(axis=2, keepdims=True)
    raised = np.minimum(value + more, 1.0)
    return np.where(value > 0, clean / np.maximum(value, 1e-9), 1.0) * raised * 255.0


def saturate(image: Array, severity: int, rng: np.random.Generator) -> Array:
    """Scale HSV's saturation. Greys count as red without saturation and may turn reddish."""
    factor, more = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))[severity - 1]
    clean = image / 255.0
    value = clean.max(axis=2, keepdims=True)
    spread = value - clean.min(axis=2, keepdims=True)
    saturation = spread / np.maximum(value, 1e-9)
    wanted = np.clip(saturation * factor + more, 0.0, 1.0)
    # How far a channel lies below the value, from 0 to 1, is what the hue says.
    below = np.where(spread > 0, (value - clean) / np.maximum(spread, 1e-9), (0.0, 1.0, 1.0))
    return value * (1.0 - wanted * below) * 255.0


def contrast(image: Array, severity: int, rng: np.random.Generator) -> Array:
    factor = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    clean = image / 255.0
    mean = clean.mean(axis=(0, 1), keepdims=True)
    return ((clean - mean) * factor + mean) * 255.0


def pixelate(image: Array, severity: int, rng: np.random.Generator) -> Array:
    factor = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    height, width = image.shape[:2]
    small = max(1, int(width * factor)), max(1, int(height * factor))
    picture = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.asarray(picture.resize((width, height), Image.Resampling.NEAREST))


def jpeg_compression(image: Array, severity: int, rng: np.random.Generator) -> Array:
    quality = (25, 18, 15, 10, 7)[severity - 1]
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def elastic_transform(image: Array, severity: int, rng: np.random.Generator) -> Array:
    """Move every pixel by a smooth random field."""
    strength = 250 * (0.05, 0.065, 0.085, 0.1, 0.12)[severity - 1]
    height, width = image.shape[:2]
    limit = height * 0.005
    dx, dy = (
        gaussian(
            rng.uniform(-limit, limit, size=(height, width)),
            (height * 0.01, width * 0.01),
            truncate=3,
            border=cv2.BORDER_REFLECT,
        )
        * strength
        for _ in range(2)
    )
    x, y = np.arange(width) + dx, np.arange(height)[:, None] + dy
    return _sample(image, x, y)


def _sample(image: Array, x: Array, y: Array) -> Array:
    """Read an image between its pixels, mirrored at the outer edge of the border pixels."""
    height, width = image.shape[:2]
    # grid_sample counts from -1 at the outer edge of the first pixel to 1 at that of the last.
    grid = np.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], axis=-1)
    planes = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    read = F.grid_sample(
        planes,
        torch.from_numpy(grid)[None],
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    return read[0].permute(1, 2, 0).numpy()
