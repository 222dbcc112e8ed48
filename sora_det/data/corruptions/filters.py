"""What several corruptions share: Gaussian and motion blur, magnification."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Array = NDArray[Any]


def gaussian(
    image: Array,
    sigma: float | tuple[float, float],
    *,
    truncate: float = 4.0,
    border: int = cv2.BORDER_REPLICATE,
) -> Array:
    """Blur with a Gaussian cut off after `truncate` sigmas, in the image's own float type.

    Args:
        image: (height, width) or (height, width, channels), float32 or float64.
        sigma: in pixels, of both axes or of (rows, columns).
        truncate: in units of sigma.
        border: OpenCV's; what lies outside.
    """
    down, across = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    return cv2.sepFilter2D(
        image, -1, _weights(across, truncate), _weights(down, truncate), borderType=border
    )


def _weights(sigma: float, truncate: float) -> Array:
    radius = int(truncate * sigma + 0.5)
    if radius == 0:  # also for sigma 0
        return np.ones(1)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def motion_blur(image: Array, *, radius: int, sigma: float, angle: float) -> Array:
    """Smear along a line that begins at each pixel, by half a Gaussian over 2 radius + 1 pixels.

    The border is repeated. Steps that would leave the whole image end the line, so that a picture
    smaller than the line gets darker; so does the benchmark's.

    Args:
        image: (height, width) or (height, width, channels).
        radius: in pixels.
        sigma: of the Gaussian, in pixels.
        angle: of the line in degrees, from the x axis towards the bottom.

    Returns:
        float64, as the image.
    """
    count = 2 * radius + 1
    weights = np.exp(-(np.arange(count) ** 2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)
    weights /= weights.sum()
    height, width = image.shape[:2]
    down, across = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    length = math.hypot(count * down, count * across)
    padded = cv2.copyMakeBorder(
        image.astype(np.float64), count, count, count, count, cv2.BORDER_REPLICATE
    )
    blurred = np.zeros(image.shape)
    for i, weight in enumerate(weights):
        dy = -math.ceil(i * (count * down) / length - 0.5)
        dx = -math.ceil(i * (count * across) / length - 0.5)
        if abs(dy) >= height or abs(dx) >= width:
            break
        top, left = count - dy, count - dx
        shifted = padded[top : top + height, left : left + width]
        cv2.scaleAdd(shifted, float(weight), blurred, blurred)
    return blurred


def magnify(image: Array, factor: float) -> Array:
    """Enlarge the middle of an image by linear interpolation, its corner pixels kept in place.

    Args:
        image: (height, width) or (height, width, channels), float.
        factor: from 1.

    Returns:
        At least as large as the image in either direction; the type is the image's.
    """
    sides = image.shape[:2]
    kept = [math.ceil(side / factor) for side in sides]
    top, left = ((side - k) // 2 for side, k in zip(sides, kept, strict=True))
    middle = np.ascontiguousarray(image[top : top + kept[0], left : left + kept[1]])
    planes = torch.from_numpy(middle.reshape(*kept, -1)).permute(2, 0, 1)[None]
    size = [round(k * factor) for k in kept]
    large = F.interpolate(planes, size, mode="bilinear", align_corners=True)[0]
    return large.permute(1, 2, 0).numpy().reshape(*size, *image.shape[2:])
