"""Corruptions by name, and the random numbers of each image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

from . import blur, digital, noise, weather
from .filters import Array

VERSION = 1  # of the corruptions: to be raised whenever a pixel may change
SEVERITIES = (1, 2, 3, 4, 5)

_FUNCTIONS: tuple[Callable[[Array, int, np.random.Generator], Array], ...] = (
    noise.gaussian_noise,
    noise.shot_noise,
    noise.impulse_noise,
    blur.defocus_blur,
    blur.glass_blur,
    blur.motion_blur,
    blur.zoom_blur,
    weather.snow,
    weather.frost,
    weather.fog,
    digital.brightness,
    digital.contrast,
    digital.elastic_transform,
    digital.pixelate,
    digital.jpeg_compression,
    noise.speckle_noise,
    blur.gaussian_blur,
    weather.spatter,
    digital.saturate,
)
NAMES = tuple(function.__name__ for function in _FUNCTIONS)
COMMON, EXTRA = NAMES[:15], NAMES[15:]


def corrupt(
    image: NDArray[np.uint8],
    name: str,
    severity: int,
    rng: np.random.Generator,
    *,
    textures: Sequence[NDArray[np.uint8]] | None = None,
) -> NDArray[np.uint8]:
    """Return a corrupted copy of `image`.

    Args:
        image: (height, width, 3) RGB of any size; a new array is returned. The benchmark's own
            package refuses sides under 32 pixels, here they work.
        name: one of `NAMES`.
        severity: 1 (mild) to 5.
        rng: what is drawn depends on the size of the image; see `image_rng`.
        textures: RGB pictures of frost, (h, w, 3) uint8, at least one; drawn ones by default.

    Raises:
        ValueError: unknown name or severity, or another kind of image.
    """
    check_names([name])
    check_severities([severity])
    _check_image(image, "an image")
    if name == "frost":
        corrupted = weather.frost(image, severity, rng, textures)
    else:
        corrupted = _FUNCTIONS[NAMES.index(name)](image, severity, rng)
    return np.clip(corrupted, 0, 255).astype(np.uint8)  # cut off, not rounded, as there


def image_rng(seed: int, image_id: str, name: str, severity: int) -> np.random.Generator:
    """Return the generator of one image, the same in whatever process and order."""
    text = "\n".join([str(seed), str(image_id), name, str(severity)])
    entropy = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    return np.random.default_rng(entropy)


@dataclass(frozen=True, eq=False)
class Corruption:
    """One corruption of every image of a data set, as `CanvasMapper` applies it.

    Attributes:
        name: one of `NAMES`.
        severity: 1 to 5.
        seed: from 0; the record's `image_id` decides the rest.
        textures: of frost, see `corrupt`.
    """

    name: str
    severity: int
    seed: int = 0
    textures: tuple[NDArray[np.uint8], ...] | None = None

    def __post_init__(self) -> None:
        check_names([self.name])
        check_severities([self.severity])
        if self.textures is not None:
            if not self.textures:
                raise ValueError("textures of frost must be at least one, got none")
            for texture in self.textures:
                _check_image(texture, "a texture of frost")

    def __call__(self, image: NDArray[np.uint8], record: Mapping[str, Any]) -> NDArray[np.uint8]:
        rng = image_rng(self.seed, str(record["image_id"]), self.name, self.severity)
        return corrupt(image, self.name, self.severity, rng, textures=self.textures)


def libraries() -> dict[str, str]:
    """Versions of the libraries that compute the pixels, by name."""
    return {"numpy": np.__version__, "opencv": cv2.__version__, "pillow": PIL.__version__}


def check_names(names: Iterable[str]) -> None:
    """Raise ValueError for a name that is no corruption, with the nearest that is."""
    for name in names:
        if name not in NAMES:
            near = get_close_matches(str(name), NAMES, n=2, cutoff=0.4)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"no corruption {name!r}{hint} There are: {', '.join(NAMES)}")


def check_severities(severities: Iterable[int]) -> None:
    """Raise ValueError for a severity other than the whole numbers 1 to 5."""
    for severity in severities:
        if isinstance(severity, bool) or severity not in SEVERITIES:
            raise ValueError(f"severity must be a whole number from 1 to 5, got {severity!r}")


def _check_image(image: Any, what: str) -> None:
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{what} must be an array, got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"{what} must be (height, width, 3) uint8, got {image.shape} {image.dtype}"
        )
    if not image.size:
        raise ValueError(f"{what} must have pixels, got {image.shape}")
