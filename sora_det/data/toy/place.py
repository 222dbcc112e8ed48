"""Choose what stands where: objects on road and pavements, furniture beside the road."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from . import furniture, people, vehicles
from .canvas import Camera, Model
from .street import FAR, Street


@dataclass(frozen=True)
class _Kind:
    """What may be placed: its chance, usual sizes in metres, and the range of its height in
    pixels of a 256-pixel image."""

    name: str
    chance: float
    length: float
    width: float
    height: float
    low: float
    high: float


_KINDS = (
    _Kind("car", 0.29, 4.4, 1.8, 1.5, 15, 78),
    _Kind("person", 0.23, 0.55, 0.55, 1.75, 22, 108),
    _Kind("truck", 0.10, 8.0, 2.4, 3.2, 30, 120),
    _Kind("bus", 0.09, 10.5, 2.5, 3.2, 30, 120),
    _Kind("bike", 0.07, 1.8, 0.6, 1.07, 17, 62),
    _Kind("motor", 0.06, 2.1, 0.8, 1.28, 18, 70),
    _Kind("rider+bike", 0.09, 1.8, 0.7, 1.82, 26, 108),
    _Kind("rider+motor", 0.07, 2.1, 0.8, 1.76, 26, 108),
)


@dataclass(frozen=True)
class Placed:
    """A model on the ground; `members` are drawn in this order at the same place."""

    members: tuple[tuple[str, Model], ...]  # (label or "" for furniture, model)
    x: float
    z: float
    yaw: float
    size: tuple[float, float, float]  # length, width, height in metres
    volume: NDArray[np.float64]  # (8, 2) image corners of the bounding box

    def reach(self) -> tuple[float, float]:
        """Return half its extent along x and along z."""
        cos, sin = abs(math.cos(self.yaw)), abs(math.sin(self.yaw))
        length, width, _ = self.size
        return 0.5 * (sin * length + cos * width), 0.5 * (cos * length + sin * width)


def _model(kind: str, rng: np.random.Generator) -> tuple[tuple[str, Model], ...]:
    """Return the labelled members of one thing to place."""
    if kind.startswith("rider+"):
        mount = kind.removeprefix("rider+")
        below = people.bike(rng) if mount == "bike" else people.motor(rng)
        return ((mount, below), ("rider", people.rider(rng, on=mount)))
    makers = {"car": vehicles.car, "bus": vehicles.bus, "truck": vehicles.truck,
              "person": people.person, "bike": people.bike, "motor": people.motor}  # fmt: skip
    return ((kind, makers[kind](rng)),)


def _spot(kind: str, layout: Street, z: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return x in metres and the yaw in radians of a plausible place for a thing."""
    lanes, parking = layout.lanes, layout.parking
    wobble = rng.normal(0, 0.1)
    if kind in ("car", "bus", "truck"):
        if rng.random() < 0.3:  # turning or crossing: seen from the side
            x = rng.uniform(*layout.road)
            return x, rng.choice([-1, 1]) * math.pi / 2 + 2.5 * wobble
        rows = lanes + parking if kind == "car" else lanes
        x, yaw = rows[rng.integers(len(rows))]
        return x + rng.normal(0, 0.15), yaw + wobble
    walks = layout.walks
    pavement = rng.uniform(*walks[rng.integers(2)])
    sideways = rng.choice([-1, 1]) * math.pi / 2 + 3 * wobble
    if kind == "person":
        x = pavement if rng.random() < 0.6 else rng.uniform(*layout.road)
        return x, sideways if rng.random() < 0.5 else rng.choice([0, math.pi]) + 3 * wobble
    if kind in ("bike", "motor"):
        x = pavement if rng.random() < 0.75 else rng.uniform(*layout.road)
        return x, sideways if rng.random() < 0.65 else rng.choice([0, math.pi]) + 4 * wobble
    x = rng.uniform(*layout.road)
    return x, sideways if rng.random() < 0.5 else rng.choice([0, math.pi]) + 3 * wobble


def objects(camera: Camera, layout: Street, rng: np.random.Generator) -> list[Placed]:
    """Place things until the wanted number of boxes is reached."""
    wanted = int(rng.integers(3, 10))
    chances = np.array([kind.chance for kind in _KINDS])
    placed: list[Placed] = []
    count = 0
    for _ in range(80):
        if count >= wanted:
            break
        kind = _KINDS[rng.choice(len(_KINDS), p=chances / chances.sum())]
        item = _try(camera, layout, rng, kind)
        if item is not None and not any(_clash(item, other) for other in placed):
            item = replace(item, members=_model(kind.name, rng))  # built only where it fits
            placed.append(item)
            count += len(item.members)
    return placed


def _try(camera: Camera, layout: Street, rng: np.random.Generator, kind: _Kind) -> Placed | None:
    """Choose a place for a thing; None where too little of it would be in the picture."""
    tall = math.exp(rng.uniform(math.log(kind.low), math.log(kind.high))) * camera.size / 256
    z = camera.focal * kind.height / tall
    x, yaw = _spot(kind.name, layout, z, rng)
    z += 0.5 * kind.length * abs(math.cos(yaw)) + 0.5 * kind.width * abs(math.sin(yaw))
    size = (kind.length, kind.width, kind.height)
    volume = _volume(camera, size, x, z, yaw)
    if volume is None or z > 0.7 * FAR:
        return None
    (x0, y0), (x1, y1) = volume.min(axis=0), volume.max(axis=0)
    inside = max(0.0, min(x1, camera.size) - max(x0, 0))
    down = max(0.0, min(y1, camera.size) - max(y0, 0))
    if inside * down < 0.6 * (x1 - x0) * (y1 - y0):
        return None
    return Placed((), x, z, yaw, size, volume)


def _volume(
    camera: Camera, size: tuple[float, float, float], x: float, z: float, yaw: float
) -> NDArray[np.float64] | None:
    """Return the image corners (8, 2) of a thing's bounding box, None if it is too near."""
    length, width, height = size
    cos, sin = math.cos(yaw), math.sin(yaw)
    corners = []
    for across in (-width / 2, width / 2):
        for along in (-length / 2, length / 2):
            px, pz = x + cos * across + sin * along, z + cos * along - sin * across
            corners += [(px, 0.0, pz), (px, height, pz)]
    points = np.array(corners)
    return camera.project(points) if points[:, 2].min() > 2.0 else None


def _clash(one: Placed, two: Placed) -> bool:
    """Whether two things stand in each other or one would hide most of the other."""
    x1, z1 = one.reach()
    x2, z2 = two.reach()
    if abs(one.z - two.z) < z1 + z2 + 0.3 and abs(one.x - two.x) < x1 + x2 + 0.2:
        return True
    far = one if one.z > two.z else two
    (a0, b0), (a1, b1) = one.volume.min(axis=0), one.volume.max(axis=0)
    (c0, d0), (c1, d1) = two.volume.min(axis=0), two.volume.max(axis=0)
    common = max(0.0, min(a1, c1) - max(a0, c0)) * max(0.0, min(b1, d1) - max(b0, d0))
    (e0, f0), (e1, f1) = far.volume.min(axis=0), far.volume.max(axis=0)
    return bool(common > 0.45 * (e1 - e0) * (f1 - f0))


def beside_road(camera: Camera, layout: Street, rng: np.random.Generator) -> list[Placed]:
    """Place street lamps in rows and other furniture at random, off the road."""
    placed = []
    gap = rng.uniform(12, 20)
    for side, x in ((1, layout.road[0] - 0.5), (-1, layout.road[1] + 0.5)):
        for z in np.arange(rng.uniform(5, 15), 70, gap).tolist():
            placed.append(_still(camera, furniture.lamp_post(side), x, z, 0.0))
    for _ in range(int(rng.integers(2, 9))):
        model = furniture.furniture(rng)
        left, right = layout.walks[rng.integers(2)]
        near_kerb = right - 0.6 if right <= layout.road[0] else left + 0.6
        x = near_kerb if rng.random() < 0.5 else rng.uniform(left, right)
        z = rng.uniform(6, 40)
        placed.append(_still(camera, model, x, z, 0.2 * rng.normal()))
    return placed


def _still(camera: Camera, model: Model, x: float, z: float, yaw: float) -> Placed:
    size = (model.length, model.width, model.height)
    volume = _volume(camera, size, x, z, yaw)
    if volume is None:  # cannot happen at z >= 5 for furniture
        raise RuntimeError(f"furniture at z={z:.1f} is too near the camera")
    return Placed((("", model),), x, z, yaw, size, volume)
