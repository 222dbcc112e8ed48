"""Blur by the lens, the glass before it, and movement. Parameters: Hendrycks and Dietterich 2019.

Every function takes (height, width, 3) uint8 RGB, a severity of 1 to 5 and a generator, and returns
floats on the scale of the image.
"""

from __future__ import annotations

import cv2
import numpy as np

from . import filters
from .filters import Array, gaussian, magnify


def gaussian_blur(image: Array, severity: int, rng: np.random.Generator) -> Array:
    sigma = (1, 2, 3, 4, 6)[severity - 1]
    return gaussian(image / 255.0, sigma) * 255.0


def defocus_blur(image: Array, severity: int, rng: np.random.Generator) -> Array:
    radius, alias = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1]
    reach, size = (8, 3) if radius <= 8 else (radius, 5)
    at = np.arange(-reach, reach + 1)
    disk = (at[:, None] ** 2 + at**2 <= radius**2).astype(np.float32)
    disk = cv2.GaussianBlur(disk / disk.sum(), (size, size), alias)
    return cv2.filter2D(image / 255.0, -1, disk) * 255.0


def motion_blur(image: Array, severity: int, rng: np.random.Generator) -> Array:
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    return filters.motion_blur(image, radius=radius, sigma=sigma, angle=rng.uniform(-45, 45))


def zoom_blur(image: Array, severity: int, rng: np.random.Generator) -> Array:
    end, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[severity - 1]
    height, width = image.shape[:2]
    clean = (image / 255.0).astype(np.float32)
    total = np.zeros_like(clean)
    factors = np.arange(1, end, step)
    for factor in factors:
        total += magnify(clean, float(factor))[:height, :width]
    return (clean + total) / (len(factors) + 1) * 255


def glass_blur(image: Array, severity: int, rng: np.random.Generator) -> Array:
    sigma, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[
        severity - 1
    ]
    seen = (gaussian(image / 255.0, sigma) * 255).astype(np.uint8)
    for _ in range(rounds):
        seen = seen.reshape(-1, 3)[_scatter(image.shape[:2], reach, rng)].reshape(image.shape)
    return gaussian(seen / 255.0, sigma) * 255.0


def _scatter(size: tuple[int, ...], reach: int, rng: np.random.Generator) -> Array:
    """Draw where each pixel of a round takes its colour from.

    The benchmark goes through the pixels from the bottom right to the top left and lets each take
    the colour of a random neighbour. (Its code says swap, but the two pixels are views of one array
    and the neighbour keeps its colour.) A neighbour visited before has another's colour already, so
    that colours travel along chains: here all chains are followed to their ends at once, each pass
    doubling the steps.

    Returns:
        Flat index of the origin of every pixel, (height * width,).
    """
    height, width = size
    own = np.arange(height * width)
    rows, columns = max(0, height - 2 * reach), max(0, width - 2 * reach)
    inner = np.s_[reach + 1 : reach + 1 + rows, reach + 1 : reach + 1 + columns]
    moves = rng.integers(-reach, reach, size=(rows, columns, 2))[::-1, ::-1]  # (.., .., dx dy)
    source = own.copy().reshape(size)
    source[inner] += moves[..., 1] * width + moves[..., 0]
    visited = np.zeros(size, dtype=bool)
    visited[inner] = True
    source = source.reshape(-1)
    follows = (source > own) & visited.reshape(-1)[source]
    end = np.where(follows, source, own)
    while not np.array_equal(further := end[end], end):
        end = further
    return source[end]
