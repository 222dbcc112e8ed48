"""Augmentations that Detectron2 0.5 and main both lack.

The others are Detectron2's own classes (`from detectron2.data import transforms as T`):

- longer side to `size` times U(0.1, 2):
  `T.ResizeScale(min_scale=0.1, max_scale=2.0, target_height=size, target_width=size)`
- longer side to `size`: `T.ResizeShortestEdge(short_edge_length=size, max_size=size)`
- crop of at most `size` by `size`, anywhere: `T.RandomCrop(crop_type="absolute",
  crop_size=(size, size))`
- mirrored every other time: `T.RandomFlip()`
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import PadTransform


class PadTo(T.Augmentation):
    """Pad an image at the right and the bottom to a square of `size` pixels."""

    def __init__(self, size: int, value: float = 114.0) -> None:
        """Take the side of the square in pixels and the value of the added pixels, 0..255."""
        super().__init__()
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        self.size, self.value = size, value

    def get_transform(self, image: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        if max(height, width) > self.size:
            raise ValueError(
                f"an image to pad must be at most {self.size} pixels high and wide, got "
                f"{height}x{width}: resize or crop it first"
            )
        right, bottom = self.size - width, self.size - height
        return PadTransform(0, 0, right, bottom, orig_w=width, orig_h=height, pad_value=self.value)


class PhotoMetricDistortion(T.Augmentation):
    """Random brightness, contrast, saturation, hue and order of channels, each every other time.

    The scheme of SSD (Liu et al. 2016) as MMDetection's detectors use it: contrast comes before
    or after the change of colours, and results are float32 that may leave 0..255. Takes RGB
    images with values in 0..255; boxes stay as they are.
    """

    def __init__(
        self,
        brightness: float = 32.0,
        contrast: Sequence[float] = (0.5, 1.5),
        saturation: Sequence[float] = (0.5, 1.5),
        hue: float = 18.0,
        swap_channels: bool = True,
    ) -> None:
        """Take the ranges to draw from.

        Args:
            brightness: added, from -brightness to brightness.
            contrast: factor of all values, from the first to the second.
            saturation: factor of the saturation, likewise.
            hue: added, from -hue to hue degrees.
            swap_channels: whether to permute the channels every other time.
        """
        super().__init__()
        for name, pair in (("contrast", contrast), ("saturation", saturation)):
            if len(pair) != 2 or not 0 <= pair[0] <= pair[1]:
                raise ValueError(f"{name} must be a pair 0 <= low <= high, got {pair}")
        if brightness < 0 or hue < 0:
            raise ValueError(f"brightness, hue must not be negative, got {brightness}, {hue}")
        self.brightness, self.contrast = brightness, tuple(contrast)
        self.saturation, self.hue = tuple(saturation), hue
        self.swap_channels = swap_channels

    def get_transform(self, image: np.ndarray) -> T.Transform:
        if image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an image must be (height, width, 3), got {image.shape}")
        settings: dict[str, Any] = {
            "brightness": _sometimes(np.random.uniform(-self.brightness, self.brightness), 0.0),
            "contrast": _sometimes(np.random.uniform(self.contrast[0], self.contrast[1]), 1.0),
            "contrast_first": _coin(),
            "saturation": _sometimes(
                np.random.uniform(self.saturation[0], self.saturation[1]), 1.0
            ),
            "hue": _sometimes(np.random.uniform(-self.hue, self.hue), 0.0),
        }
        order = np.random.permutation(3)
        if self.swap_channels and _coin():
            settings["order"] = tuple(order.tolist())
        return Distortion(partial(distort, **settings))


class Distortion(T.ColorTransform):
    """Changes the colour of every pixel by that colour alone."""


def distort(
    image: np.ndarray,
    *,
    brightness: float = 0.0,
    contrast: float = 1.0,
    contrast_first: bool = True,
    saturation: float = 1.0,
    hue: float = 0.0,
    order: tuple[int, ...] = (0, 1, 2),
) -> np.ndarray:
    """Change the colours of an RGB image.

    Args:
        image: (height, width, 3), values in 0..255.
        brightness: added to every value.
        contrast: factor of every value, before (`contrast_first`) or after the next two.
        saturation: factor of HSV's saturation, the result limited to 1.
        hue: degrees added to HSV's hue.
        order: which channel goes where.

    Returns:
        float32 of the same shape, not clipped to 0..255.
    """
    image = image.astype(np.float32)  # a copy; the rest works in place where it can
    image += np.float32(brightness)
    if contrast_first:
        image *= np.float32(contrast)
    if saturation != 1.0 or hue != 0.0:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # hue in 0..360, saturation in 0..1
        turn = math.fmod(hue, 360.0)
        change = np.array([(1, 0, 0, turn), (0, saturation, 0, 0), (0, 0, 1, 0)])
        hsv = cv2.transform(hsv, change)
        angle = hsv[..., 0]  # back to 0..360, as OpenCV wants it
        if hue > 0.0:
            np.subtract(angle, 360.0, out=angle, where=angle >= 360.0)
        elif hue < 0.0:
            np.add(angle, 360.0, out=angle, where=angle < 0.0)
        if saturation > 1.0:
            np.minimum(hsv[..., 1], 1.0, out=hsv[..., 1])
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    last = np.eye(3)[list(order)] * (1.0 if contrast_first else contrast)
    return image if np.array_equal(last, np.eye(3)) else cv2.transform(image, last)


def _coin() -> bool:
    return bool(np.random.randint(2))


def _sometimes(value: float, otherwise: float) -> float:
    return float(value) if _coin() else otherwise
