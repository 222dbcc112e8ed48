"""Pictures of frost on a window, drawn: the benchmark's photographs are not ours to pass on.

Brightness, contrast and colour of each picture are those of a photograph that the benchmark may
choose (five of its six), so that an image is whitened about as much. The crystals are not the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .filters import Array, gaussian

HEIGHT, WIDTH = 600, 900
_FRACTION = 4  # bits of a line's coordinates
_FILES = {".png", ".jpg", ".jpeg"}


@dataclass(frozen=True)
class _Look:
    """What one picture is like.

    Attributes:
        colour: mean red, green and blue.
        contrast: standard deviation of a channel.
        feathers: number of fern-like crystals.
        length: of the longest, in pixels; the shortest have a fifth.
        spread: angle between a stem and its branches, degrees.
        cover: how much a crystal hides of those under it, 0 to 1.
        clouds: share of the contrast that is uneven thickness of the ice.
        tint: how far the hue wanders, in units of the contrast.
    """

    colour: tuple[float, float, float]
    contrast: float
    feathers: int
    length: float
    spread: float
    cover: float
    clouds: float
    tint: float


_LOOKS = (
    _Look((78, 149, 166), 20.0, 700, 230.0, 22.0, 0.30, 0.60, 0.35),
    _Look((201, 205, 214), 22.0, 1500, 170.0, 16.0, 0.75, 0.30, 0.08),
    _Look((201, 205, 214), 22.0, 2200, 120.0, 12.0, 0.85, 0.25, 0.08),
    _Look((138, 153, 165), 29.0, 3200, 50.0, 50.0, 0.55, 0.40, 0.08),
    _Look((112, 123, 135), 43.0, 1100, 130.0, 56.0, 0.60, 0.42, 0.10),
)


@lru_cache(maxsize=1)
def drawn_textures() -> tuple[NDArray[np.uint8], ...]:
    """Return five pictures, (600, 900, 3) uint8 RGB, always the same; the first call draws them."""
    return tuple(_draw(look, np.random.default_rng(i)) for i, look in enumerate(_LOOKS))


def read_textures(folder: str | Path) -> tuple[NDArray[np.uint8], ...]:
    """Read every PNG and JPEG file of a folder, in the order of their names, as uint8 RGB.

    Raises:
        ValueError: no such files, or one that is no image.
    """
    files = sorted(f for f in Path(folder).glob("*") if f.suffix.lower() in _FILES)
    if not files:
        raise ValueError(f"no PNG or JPEG file with a texture of frost in {folder}")
    textures = []
    for file in files:
        texture = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if texture is None:
            raise ValueError(f"{file} is no image that can be read")
        textures.append(texture[..., ::-1].astype(np.uint8))
    return tuple(textures)


def _draw(look: _Look, rng: np.random.Generator) -> NDArray[np.uint8]:
    ice = np.full((HEIGHT, WIDTH), 0.35, dtype=np.float32)
    for _ in range(look.feathers):
        _feather(ice, look, rng)
    # Light from the top left falls on the height of the ice.
    smooth = gaussian(ice, 0.7)
    relief = smooth - np.pad(smooth, ((2, 0), (2, 0)), mode="edge")[:-2, :-2]
    crystals = _unit(_unit(ice) + 0.8 * _unit(relief) + 0.25 * rng.normal(size=ice.shape))
    thick = _unit(np.sum([_clouds(rng, size) * size for size in (120, 50, 20)], axis=0))
    share = look.clouds
    tone = _unit((1 - share) * np.tanh(0.7 * crystals) * 1.4 + share * thick)
    tint = look.tint * _clouds(rng, 90)[..., None] * np.array([-0.8, 0.1, 0.7])
    colour = np.array(look.colour) + look.contrast * (tone[..., None] + tint)
    return np.clip(np.round(colour), 0, 255).astype(np.uint8)


def _clouds(rng: np.random.Generator, size: int) -> Array:
    """Smooth noise with blobs of about `size` pixels, mean 0 and deviation 1."""
    coarse = rng.normal(size=(HEIGHT // size + 4, WIDTH // size + 4))
    return _unit(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))


def _unit(values: Array) -> Array:
    return (values - values.mean()) / values.std()


def _feather(ice: Array, look: _Look, rng: np.random.Generator) -> None:
    """Add one crystal to the heights `ice`: a plate, a stem and branches on both its sides."""
    length = look.length * rng.uniform(0.2, 1.0) ** 1.5 + 8
    start = rng.uniform((-40, -40), (WIDTH + 40, HEIGHT + 40))
    heading, bend = rng.uniform(0, 2 * np.pi), rng.normal(scale=0.25)
    along = np.arange(0.0, 1.0, 3.0 / length)
    angle = heading + bend * along
    steps = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    stem = start + np.cumsum(steps, axis=0) * 3.0
    reach = length * rng.uniform(0.22, 0.4) * (1 - along) ** 0.8 * np.minimum(1, 6 * along + 0.1)
    sides, outline = [], []
    for sign in (1, -1):
        out = angle + sign * np.radians(look.spread + rng.normal(scale=3.0, size=angle.shape))
        grown = reach * rng.uniform(0.6, 1.0, size=reach.shape)
        tips = stem + np.stack([np.cos(out), np.sin(out)], axis=-1) * grown[:, None]
        sides.append(np.stack([stem, tips], axis=1))
        outline.append(tips[::sign])
    top, bottom, left, right = _around(np.concatenate([stem, *outline]))
    if bottom <= top or right <= left:
        return
    part = ice[top:bottom, left:right]
    corner = np.array([left, top])
    plate, lines = np.zeros((2, *part.shape), dtype=np.uint8)
    cv2.fillPoly(plate, [_fixed(np.concatenate(outline) - corner)], 255, cv2.LINE_AA, _FRACTION)
    branches = [_fixed(line - corner) for side in sides for line in side]
    cv2.polylines(lines, branches, False, int(rng.integers(110, 190)), 1, cv2.LINE_AA, _FRACTION)
    cv2.polylines(lines, [_fixed(stem - corner)], False, 255, 1, cv2.LINE_AA, _FRACTION)
    shade = rng.uniform(0.15, 0.65)
    part += (shade - part) * (look.cover / 255) * plate
    part += np.float32(0.55 / 255) * lines


def _around(points: Array) -> tuple[int, int, int, int]:
    """Rows and columns of the picture that hold the points, and two more pixels each way."""
    low, high = np.floor(points.min(axis=0)) - 2, np.ceil(points.max(axis=0)) + 3
    left, top = (max(0, int(value)) for value in low)
    return top, min(HEIGHT, int(high[1])), left, min(WIDTH, int(high[0]))


def _fixed(points: Array) -> Array:
    return np.round(points * 2**_FRACTION).astype(np.int32)
