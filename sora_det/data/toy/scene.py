"""One driving scene: place street, furniture and objects, draw them, and note every box."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from . import street
from .canvas import OVERSAMPLE, Camera, Canvas, Light
from .place import Placed, beside_road, objects

CLASSES = ("bus", "bike", "car", "motor", "person", "rider", "truck")
MIN_VISIBLE = 0.3  # boxes of objects less visible than this are dropped


@dataclass(frozen=True)
class Thing:
    """An annotated object.

    Attributes:
        label: one of CLASSES.
        box: x0, y0, x1, y1 in whole pixels, x1 and y1 exclusive: the whole object, hidden parts
            too, cut at the image border.
        depth: distance in metres.
        visible: share of its pixels inside the image that nothing covers, 0..1.
        owner: its id in the instance map.
    """

    label: str
    box: tuple[int, int, int, int]
    depth: float
    visible: float
    owner: int


@dataclass(frozen=True)
class Scene:
    """A drawn scene in plain daylight with all that a weather needs.

    Attributes:
        image: (size, size, 3) uint8 RGB.
        depth: (size, size) float32 in metres, inf for the sky.
        instances: (size, size) uint8, 0 for ground and sky; see `Thing.owner`, `Light.owner`.
        things: the annotated objects.
        lights: lamps that shine at night.
        camera: where it was seen from.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    instances: NDArray[np.uint8]
    things: tuple[Thing, ...]
    lights: tuple[Light, ...]
    camera: Camera


def draw_scene(rng: np.random.Generator, *, size: int = 256, sunny: bool = True) -> Scene:
    """Draw a random street with three to nine objects.

    Args:
        rng: the only source of randomness; equal states give equal scenes.
        size: width and height in pixels, at least 64.
        sunny: sunlight and cast shadows; otherwise the even light of an overcast day. The
            layout of the scene does not depend on it.

    Raises:
        ValueError: if the size is below 64.
    """
    if size < 64:
        raise ValueError(f"size must be at least 64 pixels, got {size}")
    camera = Camera(size, size * rng.uniform(0.85, 1.15), size * rng.uniform(0.38, 0.52),
                    rng.uniform(1.35, 1.8))  # fmt: skip
    bearing, climb = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 1.1)
    level = math.cos(climb)
    sun = (level * math.cos(bearing), math.sin(climb), level * math.sin(bearing))
    ambient = rng.uniform(0.55, 0.75)
    canvas = Canvas(camera, sun, ambient if sunny else 0.85)
    layout = street.lay_out(rng)
    street.paint_backdrop(canvas, layout, rng)
    walls, owner = street.build(canvas, layout, rng, 1)
    placed = objects(camera, layout, rng) + beside_road(camera, layout, rng)
    placed.sort(key=lambda item: -item.z)
    for item in placed:
        depth = rng.uniform(0.5, 0.7)  # drawn in any case: the layout must not depend on sunny
        _shadow(canvas, item, sun, depth if sunny else 0.72, cast=sunny)
    full: list[tuple[str, float, int, tuple[int, int, int, int, int]]] = []
    depths = np.full(256, np.nan, dtype=np.float32)
    for item in placed:
        for label, model in item.members:
            canvas.model(model, x=item.x, z=item.z, yaw=item.yaw, owner=owner)
            depths[owner] = item.z
            if label:
                full.append((label, item.z, owner, canvas.extent(owner)))
            owner += 1
    if owner > 256:
        raise RuntimeError(f"a scene may have 255 owners, got {owner - 1}")
    return _finish(canvas, full, walls, depths, rng)


def _finish(
    canvas: Canvas,
    full: list[tuple[str, float, int, tuple[int, int, int, int, int]]],
    walls: list[street.Wall],
    depths: NDArray[np.float32],
    rng: np.random.Generator,
) -> Scene:
    """Average the canvas down, fill the depth map and keep the boxes that show enough."""
    camera = canvas.camera
    owners = canvas.pixels[..., 3]
    areas = cv2.calcHist([canvas.pixels], [3], None, [256], [0, 256]).ravel()
    instances = np.ascontiguousarray(owners[::OVERSAMPLE, ::OVERSAMPLE])
    things = []
    for label, z, owner, (x0, y0, x1, y1, area) in full:
        visible = int(areas[owner]) / area if area else 0.0
        if visible >= MIN_VISIBLE and min(x1 - x0, y1 - y0) >= 3:
            things.append(Thing(label, (x0, y0, x1, y1), z, visible, owner))
    shape = (camera.size, camera.size)
    small = cv2.resize(canvas.pixels, shape, interpolation=cv2.INTER_AREA)[..., :3]
    depth = camera.ground_depth()
    street.wall_depth(walls, instances, depth, camera)
    own = depths[instances]
    depth = np.where(np.isnan(own), depth, own)
    grain = rng.standard_normal(instances.shape, dtype=np.float32)
    strength = np.where((instances == 0) & np.isfinite(depth), 7.0, 3.0).astype(np.float32)
    strength *= np.clip(12.0 / np.maximum(depth, 1.0), 0.25, 1.0)
    image = np.clip(small + (grain * strength)[..., None], 0, 255).astype(np.uint8)
    return Scene(image, depth, instances, tuple(things), tuple(canvas.lights), camera)


def _shadow(
    canvas: Canvas, item: Placed, sun: tuple[float, float, float], factor: float, *, cast: bool
) -> None:
    """Darken the ground under a model and, in sunlight, where its height casts a shadow."""
    model = item.members[-1][1]
    cos, sin = math.cos(item.yaw), math.sin(item.yaw)
    angles = np.linspace(0, 2 * math.pi, 15)[:-1]
    across, along = 0.5 * model.width * np.cos(angles), 0.56 * model.length * np.sin(angles)
    x = item.x + 1.1 * (cos * across + sin * along)
    z = item.z + 1.1 * (cos * along - sin * across)
    foot = np.stack([x, np.zeros_like(x), z], axis=1)
    foot[:, 2] = np.maximum(foot[:, 2], 1.2)
    canvas.darken_ground(foot, factor)
    if cast:
        throw = 0.7 * min(model.height, 4.0) / sun[1]
        tip = foot + np.array([-sun[0] * throw, 0, -sun[2] * throw])
        tip[:, 2] = np.maximum(tip[:, 2], 1.2)
        hull = cv2.convexHull(np.concatenate([foot, tip])[:, [0, 2]].astype(np.float32))[:, 0]
        ground = np.stack([hull[:, 0], np.zeros(len(hull)), hull[:, 1]], axis=1)
        canvas.darken_ground(ground, 0.5 + 0.5 * factor)
