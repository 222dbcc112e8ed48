"""Noise of the sensor and of the transmission. Parameters: Hendrycks and Dietterich 2019.

Every function takes (height, width, 3) uint8 RGB, a severity of 1 to 5 and a generator, and returns
floats on the scale of the image, which may leave 0..255.
"""

from __future__ import annotations

import numpy as np

from .filters import Array


def gaussian_noise(image: Array, severity: int, rng: np.random.Generator) -> Array:
    scale = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    return (image / 255.0 + rng.normal(scale=scale, size=image.shape)) * 255.0


def shot_noise(image: Array, severity: int, rng: np.random.Generator) -> Array:
    photons = (60, 25, 12, 5, 3)[severity - 1]  # that make a white pixel
    return rng.poisson(image / 255.0 * photons) / photons * 255.0


def impulse_noise(image: Array, severity: int, rng: np.random.Generator) -> Array:
    amount = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    hit = rng.random(image.shape) <= amount
    white = rng.random(image.shape) <= 0.5
    return np.where(hit, np.where(white, 255, 0), image)


def speckle_noise(image: Array, severity: int, rng: np.random.Generator) -> Array:
    scale = (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1]
    clean = image / 255.0
    return (clean + clean * rng.normal(scale=scale, size=image.shape)) * 255.0
