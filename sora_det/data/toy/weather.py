"""Render a scene as daytime-clear, daytime-foggy, Night-Sunny, dusk-rainy or night-rainy.

Light is added up in linear intensities (gamma 2.2), fog follows the scattering model
I * t + A * (1 - t) with t = exp(-beta * distance).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import Light
from .scene import Scene

Image = NDArray[Any]  # (size, size, 3) float32, RGB, display values or linear light, 0..1
Map = NDArray[Any]  # (size, size) float32
_HAZE = np.array([0.74, 0.8, 0.86], dtype=np.float32)


def clear_day(scene: Scene, rng: np.random.Generator) -> Image:
    """Return the scene with a random exposure, white balance, faint haze and sensor noise."""
    balance = rng.normal(1, 0.04, 3).astype(np.float32)
    image = _display(_linear(scene) * rng.uniform(0.55, 1.35) * balance)
    depth = np.minimum(scene.depth, 80.0)  # leaves the sky its colour
    image = _fog(image, depth, rng.uniform(0.0, 0.006), _HAZE)
    return _noise(image, rng, 0.008)


def foggy_day(scene: Scene, rng: np.random.Generator) -> Image:
    """Return the scene in fog: contrast falls with distance towards a bright airlight."""
    image = _display(_linear(scene) * rng.uniform(0.65, 1.05))
    grey = image.mean(axis=2, keepdims=True)
    image = grey + 0.7 * (image - grey)
    beta = rng.uniform(0.018, 0.045)
    airlight = np.float32(rng.uniform(0.66, 0.86)) + rng.normal(0, 0.006, 3).astype(np.float32)
    image = _fog(image, scene.depth, beta, airlight)
    soft = cv2.GaussianBlur(image, (0, 0), 1.1 * _unit(scene))
    blur = (1 - np.exp(-0.04 * scene.depth))[..., None]  # scattered light also smears
    return _noise(image + blur * (soft - image), rng, 0.009)


def clear_night(scene: Scene, rng: np.random.Generator) -> Image:
    """Return the scene by night under street lamps and the own headlights."""
    linear = _night(scene, rng, ambient=rng.uniform(0.045, 0.1), glare=0.75)
    return _noise(_expose(linear, rng.uniform(2.4, 3.4)), rng, rng.uniform(0.01, 0.025))


def rainy_dusk(scene: Scene, rng: np.random.Generator) -> Image:
    """Return the scene in dim light and rain: wet road, streaks, haze, soft focus."""
    tint = np.array([0.86, 0.95, 1.15] if rng.random() < 0.6 else [1.1, 0.93, 0.88])
    base = _linear(scene) * (rng.uniform(0.28, 0.5) * tint).astype(np.float32)
    linear = base + _bloom(_lamps(scene, rng, share=0.6), 0.5 * _unit(scene))
    veil = (rng.uniform(0.12, 0.24) * tint).astype(np.float32)
    linear = _fog(linear, scene.depth, rng.uniform(0.01, 0.028), veil)
    linear = _wet(linear, scene, rng, rng.uniform(0.45, 0.75))
    image = _display(linear)
    image = _streaks(image, rng, rng.uniform(0.08, 0.16), image.mean(axis=2))
    image = _droplets(image, rng, int(rng.integers(4, 16)))
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.8) * _unit(scene))
    return _noise(image, rng, 0.01)


def rainy_night(scene: Scene, rng: np.random.Generator) -> Image:
    """Return the scene by night in rain: lamps stretched on the road, glare, drops."""
    linear = _night(scene, rng, ambient=rng.uniform(0.035, 0.075), glare=1.0)
    veil = rng.uniform(0.006, 0.014) * np.array([1.0, 0.92, 0.85], dtype=np.float32)
    linear = _fog(linear, scene.depth, rng.uniform(0.01, 0.025), veil)
    linear = _wet(linear, scene, rng, rng.uniform(0.6, 0.9))
    image = _expose(linear, rng.uniform(2.2, 3.2))
    lit = cv2.GaussianBlur(image.mean(axis=2), (0, 0), 8 * _unit(scene))
    image = _streaks(image, rng, rng.uniform(0.08, 0.16), 0.2 + 1.6 * lit)
    image = _droplets(image, rng, int(rng.integers(8, 28)))
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.75) * _unit(scene))
    return _noise(image, rng, rng.uniform(0.01, 0.022))


WEATHERS: dict[str, Callable[[Scene, np.random.Generator], Image]] = {
    "daytime-clear": clear_day,
    "Night-Sunny": clear_night,
    "dusk-rainy": rainy_dusk,
    "night-rainy": rainy_night,
    "daytime-foggy": foggy_day,
}


def render(scene: Scene, weather: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (size, size, 3) uint8 RGB of a scene under one of WEATHERS.

    Raises:
        ValueError: if the weather is unknown.
    """
    if weather not in WEATHERS:
        raise ValueError(f"weather must be one of {', '.join(WEATHERS)}, got {weather!r}")
    image = WEATHERS[weather](scene, rng)
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def _unit(scene: Scene) -> float:
    """Return the factor from pixels of a 256-pixel image to this image's pixels."""
    return scene.camera.size / 256


def _linear(scene: Scene) -> Image:
    table = (np.arange(256, dtype=np.float32) / 255) ** 2.2
    return table[scene.image]


def _display(linear: Image) -> Image:
    return np.power(np.clip(linear, 0, 1), 1 / 2.2, dtype=np.float32)


def _expose(linear: Image, gain: float) -> Image:
    """Return display values with a soft shoulder instead of clipping."""
    return _display(1 - np.exp(-gain * np.maximum(linear, 0)))


def _noise(image: Image, rng: np.random.Generator, sigma: float) -> Image:
    """Add fine grey grain and, as cameras do, coarser coloured grain."""
    size = image.shape[0]
    grey = rng.standard_normal((size, size), dtype=np.float32)[..., None]
    coarse = rng.standard_normal(((size + 1) // 2, (size + 1) // 2, 3), dtype=np.float32)
    tint = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)
    return image + sigma * (0.85 * grey + 0.85 * tint)


def _fog(image: Image, depth: Map, beta: float, airlight: NDArray[np.float32]) -> Image:
    t = np.exp(-beta * np.minimum(depth, 1e4))[..., None]
    return image * t + airlight * (1 - t)


def _positions(scene: Scene) -> tuple[Map, Map, Map]:
    """Return x, height and z in metres of every pixel; the sky is put far away."""
    camera = scene.camera
    z = np.minimum(scene.depth, 200.0)
    steps = np.arange(camera.size, dtype=np.float32) + 0.5
    x = (steps[None, :] - 0.5 * camera.size) * z / camera.focal
    y = camera.height - (steps[:, None] - camera.horizon) * z / camera.focal
    return x, y, z


def _night(scene: Scene, rng: np.random.Generator, *, ambient: float, glare: float) -> Image:
    """Return linear light by night: moon and city glow, lamps, headlights, bloom."""
    x, y, z = _positions(scene)
    blue = np.array([0.75, 0.9, 1.35], dtype=np.float32)
    light = np.broadcast_to(ambient * blue, (*x.shape, 3)).copy()
    beam = rng.uniform(0.25, 0.6) / (1 + (z / 8.0) ** 2) * np.exp(-((x / (0.32 * z + 1)) ** 2))
    above = np.clip((y - 1.0) / 0.25, -20, 20)
    beam *= 0.15 + 0.85 / (1 + np.exp(above))  # dipped: little above the bonnet
    light += beam[..., None] * np.array([1.0, 0.96, 0.85], dtype=np.float32)
    sodium = rng.random() < 0.6
    tone = np.array([1.0, 0.66, 0.3] if sodium else [0.9, 0.95, 1.0], dtype=np.float32)
    pools = np.zeros_like(z)
    for lamp in scene.lights:
        if lamp.kind == "street" and rng.random() < 0.9 and lamp.position[2] < 60:
            lx, ly, lz = lamp.position
            square = ((x - lx) ** 2 + (z - lz) ** 2 + 0.6 * (y - ly) ** 2) / 30.0
            pools += 1 / (1 + square * np.sqrt(square))
    light += (rng.uniform(0.06, 0.2) * pools)[..., None] * tone
    linear = _linear(scene) * light
    sky = np.isinf(scene.depth)
    rise = np.clip(np.arange(x.shape[0], dtype=np.float32) / scene.camera.horizon, 0, 1) ** 3
    glow = rng.uniform(0.002, 0.006) * blue + rng.uniform(0, 0.02) * rise[:, None, None] * tone
    linear = np.where(sky[..., None], glow, linear)
    lamps = _lamps(scene, rng, share=1.0)
    return linear + _bloom(lamps, glare * _unit(scene), gain=glare)


_POWER = {"head": 5.0, "tail": 1.6, "street": 5.0, "signal": 1.5, "window": 0.5}


def _lamps(scene: Scene, rng: np.random.Generator, *, share: float) -> Image:
    """Return the linear light of the lamps that are on and not hidden: (size, size, 3)."""
    size = scene.camera.size
    shine = np.zeros((size, size, 3), dtype=np.float32)
    walls = np.zeros((size, size, 4), dtype=np.float32)
    wall_share = share * rng.uniform(0.3, 1.0)
    owners = {light.owner for light in scene.lights}
    dark = {owner for owner in sorted(owners) if rng.random() > share}
    for light in scene.lights:
        chance = rng.random()
        far = 1.0 if light.kind in ("window", "street") else _fading(light, size)
        power = _POWER[light.kind] * far
        r, g, b = ((value / 255) ** 2.2 * power for value in light.colour)
        outline = np.round(np.clip(light.outline, -4e3, 4e3) * 16 - 8).astype(np.int32)
        if light.kind == "window":
            if chance < wall_share:
                cv2.fillPoly(walls, [outline], (r, g, b, light.owner), cv2.LINE_8, 4)
            continue
        u, v = np.round(outline.mean(axis=0)).astype(int).tolist()
        if light.owner in dark or not _seen(scene, light, u / 16, v / 16):
            continue
        radius = max(14, round(16 * min(light.radius, 4 * size / 256)))
        cv2.circle(shine, (u, v), radius, (r, g, b), -1, cv2.LINE_8, 4)
    lit = walls[..., 3] == scene.instances
    return shine + walls[..., :3] * (lit & (scene.instances > 0))[..., None]


def _fading(light: Light, size: int) -> float:
    """Return how much of its power a lamp smaller than a pixel or so still brings, 0..1."""
    return min(1.0, max(0.15, (light.radius * 256 / size / 1.6) ** 2))


def _seen(scene: Scene, light: Light, u: float, v: float) -> bool:
    """Whether the thing that carries the lamp is in front at the lamp's place."""
    x, y = math.floor(u + 0.5), math.floor(v + 0.5)
    patch = scene.instances[max(0, y - 1) : max(0, y + 2), max(0, x - 1) : max(0, x + 2)]
    return bool(np.any(patch == light.owner))


def _bloom(shine: Image, scale: float, gain: float = 1.0) -> Image:
    """Return lamps with the halo that a lens and eyes add."""
    halo = 0.5 * cv2.GaussianBlur(shine, (0, 0), 1.2 + 0.6 * scale)
    halo += 0.55 * gain * cv2.GaussianBlur(shine, (0, 0), 3.0 * scale + 0.5)
    small = cv2.resize(shine, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    wide = cv2.GaussianBlur(small, (0, 0), 3.0 * scale + 0.5)
    halo += 0.5 * gain * cv2.resize(wide, shine.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return shine + halo


def _wet(linear: Image, scene: Scene, rng: np.random.Generator, strength: float) -> Image:
    """Mix a blurred mirror image into the ground: flipped street, flipped objects."""
    size, horizon = scene.camera.size, scene.camera.horizon
    rows = np.clip(2 * horizon - np.arange(size), 0, size - 1).astype(int)
    mirror = linear[rows]
    for thing in sorted(scene.things, key=lambda t: -t.depth):
        x0, y0, x1, y1 = thing.box
        count = min(y1 - y0, size - y1)
        if count > 0:
            patch = linear[y1 - count : y1, x0:x1][::-1]
            own = (scene.instances[y1 - count : y1, x0:x1] == thing.owner)[::-1]
            target = mirror[y1 : y1 + count, x0:x1]
            target[own] = patch[own]
    tall = int(14 * size / 256) | 1
    mirror = cv2.blur(mirror, (3, tall))
    ripple = rng.standard_normal((size, size), dtype=np.float32) * 1.2
    u = np.arange(size, dtype=np.float32)[None, :] + cv2.GaussianBlur(ripple, (0, 0), 1.0)
    v = np.repeat(np.arange(size, dtype=np.float32)[:, None], size, axis=1)
    mirror = cv2.remap(mirror, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    puddles = cv2.resize(rng.random((7, 5)).astype(np.float32), (size, size))
    slope = np.exp(-(np.arange(size, dtype=np.float32) - horizon) / (0.5 * size))
    weight = strength * (0.35 + 0.65 * puddles) * np.clip(slope, 0, 1)[:, None]
    weight = np.where((scene.instances == 0) & np.isfinite(scene.depth), weight, 0)[..., None]
    return linear * (1 - 0.85 * weight) + mirror * weight


def _streaks(image: Image, rng: np.random.Generator, strength: float, light: Map) -> Image:
    """Add slanted streaks of falling rain, brighter where there is light."""
    size = image.shape[0]
    unit = size / 256
    rain: Map = np.zeros((size, size), dtype=np.float32)
    slant = rng.uniform(-0.35, 0.35)
    count = int(rng.integers(250, 600))
    u, v = rng.uniform(-0.1, 1.1, count) * size, rng.uniform(-0.1, 1.0, count) * size
    length = rng.uniform(4, 18, count) * unit
    level = rng.uniform(0.2, 1.0, count)
    ends = np.stack([u, v, u + slant * length, v + length], axis=1)
    for (a, b, c, d), value in zip(np.round(ends * 16).astype(int).tolist(), level, strict=True):
        cv2.line(rain, (a, b), (c, d), float(value), 1, cv2.LINE_8, 4)
    rain = cv2.GaussianBlur(rain, (0, 0), 0.5 * unit)
    return image + (strength * rain * (0.35 + light))[..., None]


def _droplets(image: Image, rng: np.random.Generator, count: int) -> Image:
    """Put drops on the windscreen: each shows a small, blurred, upside-down street."""
    size = image.shape[0]
    unit = size / 256
    flipped = cv2.GaussianBlur(image[::-1], (0, 0), 2.0 * unit)
    alpha: Map = np.zeros((size, size), dtype=np.float32)
    for _ in range(count):
        u, v = rng.uniform(0, 16 * size, 2).astype(int).tolist()
        radius = rng.uniform(1.2, 5.0) * unit * 16
        axes = (int(radius), int(radius * rng.uniform(1.0, 1.5)))
        cv2.ellipse(alpha, (u, v), axes, 0, 0, 360, rng.uniform(0.5, 0.9), -1, cv2.LINE_8, 4)
    alpha = cv2.GaussianBlur(alpha, (0, 0), 0.8 * unit)[..., None]
    return image * (1 - alpha) + (1.1 * flipped + 0.02) * alpha
