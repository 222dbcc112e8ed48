"""Snow, fog, frost and what splashes onto the lens. Parameters: Hendrycks and Dietterich 2019.

Every function takes (height, width, 3) uint8 RGB, a severity of 1 to 5 and a generator, and returns
floats on the scale of the image, which may leave 0..255.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from .filters import Array, gaussian, magnify, motion_blur
from .frost import drawn_textures

_WATER = np.array([175, 238, 238]) / 255.0
_MUD = np.array([63, 42, 20]) / 255.0


def snow(image: Array, severity: int, rng: np.random.Generator) -> Array:
    # mean and deviation of the flakes, their size, threshold, length and spread of the fall,
    # share of the image that is not whitened
    mean, deviation, size, threshold, radius, sigma, kept = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[severity - 1]
    height, width = image.shape[:2]
    clean = image.astype(np.float32) / 255
    flakes = magnify(rng.normal(mean, deviation, size=(height, width)), size)
    flakes = np.clip(np.where(flakes < threshold, 0.0, flakes), 0.0, 1.0)
    flakes = motion_blur(flakes, radius=radius, sigma=sigma, angle=rng.uniform(-135, -45))
    flakes = np.round(flakes[:height, :width] * 255) / 255.0
    grey = cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY)[..., None]
    whitened = kept * clean + (1 - kept) * np.maximum(clean, grey * 1.5 + 0.5)
    return (whitened + (flakes + flakes[::-1, ::-1])[..., None]) * 255.0


def fog(image: Array, severity: int, rng: np.random.Generator) -> Array:
    thickness, decay = ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[severity - 1]
    height, width = image.shape[:2]
    clean = image / 255.0
    side = 2 ** (max(height, width, 2) - 1).bit_length()
    clouds = plasma(side, decay, rng)[:height, :width, None]
    brightest = clean.max()
    return (clean + thickness * clouds) * brightest / (brightest + thickness) * 255.0


def plasma(side: int, decay: float, rng: np.random.Generator) -> Array:
    """Draw clouds by the diamond-square algorithm (Fournier, Fussell and Carpenter 1982).

    Args:
        side: a power of two, at least 2.
        decay: by which the roughness is divided each time the grid gets twice as fine.

    Returns:
        (side, side), from 0 to 1, continued periodically.
    """
    heights = np.zeros((side, side))
    step, rough = side, 100.0
    while step >= 2:
        half = step // 2

        def jolted(total: Array, rough: float = rough) -> Array:  # mean of four, and a jolt
            return total / 4 + rough * rng.uniform(-rough, rough, size=total.shape)

        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=0)
        middles = heights[half::step, half::step]
        middles[:] = jolted(pairs + np.roll(pairs, -1, axis=1))
        beside = corners + np.roll(corners, -1, axis=1)
        heights[::step, half::step] = jolted(middles + np.roll(middles, 1, axis=0) + beside)
        below = corners + np.roll(corners, -1, axis=0)
        heights[half::step, ::step] = jolted(middles + np.roll(middles, 1, axis=1) + below)
        step, rough = half, rough / decay
    heights -= heights.min()
    return heights / heights.max()


def frost(
    image: Array,
    severity: int,
    rng: np.random.Generator,
    textures: Sequence[Array] | None = None,
) -> Array:
    """Lay a random part of one of `textures`, (h, w, 3) uint8 RGB, over the image.

    Without `textures`, drawn ones are used; the benchmark has photographs.
    """
    kept, strength = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    textures = drawn_textures() if textures is None else textures
    ice = textures[int(rng.integers(len(textures)))]
    height, width = image.shape[:2]
    needed = max(1.0, height / ice.shape[0], width / ice.shape[1]) * 1.1
    size = math.ceil(ice.shape[1] * needed), math.ceil(ice.shape[0] * needed)
    ice = cv2.resize(ice, size, interpolation=cv2.INTER_CUBIC)
    top = int(rng.integers(0, ice.shape[0] - height))
    left = int(rng.integers(0, ice.shape[1] - width))
    return kept * image + strength * ice[top : top + height, left : left + width]


def spatter(image: Array, severity: int, rng: np.random.Generator) -> Array:
    # mean and deviation of the liquid, size of its drops, threshold, strength
    mean, deviation, size, threshold, strength = (
        (0.65, 0.3, 4, 0.69, 0.6),
        (0.65, 0.3, 3, 0.68, 0.6),
        (0.65, 0.3, 2, 0.68, 0.5),
        (0.65, 0.3, 1, 0.65, 1.5),
        (0.67, 0.4, 1, 0.65, 1.5),
    )[severity - 1]
    clean = image.astype(np.float32) / 255
    liquid = gaussian(rng.normal(mean, deviation, size=image.shape[:2]), size)
    liquid[liquid < threshold] = 0
    if severity <= 3:
        return (clean + _drops(liquid, strength) * _WATER) * 255.0
    mud = gaussian((liquid > threshold).astype(np.float32), strength)[..., None]
    mud[mud < 0.8] = 0
    return (clean * (1 - mud) + _MUD * mud) * 255.0


def _drops(liquid: Array, strength: float) -> Array:
    """Return how much light drops of clear water add, (height, width, 1): relief at their edges."""
    bright = (liquid * 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(bright, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    relief = cv2.filter2D(cv2.equalizeHist(distance), cv2.CV_8U, emboss)
    light = bright * cv2.blur(relief, (3, 3)).astype(np.float32)
    brightest = light.max()
    return (light / brightest * strength if brightest > 0 else light)[..., None]
