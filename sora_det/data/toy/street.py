"""The street: sky, road with its markings, pavements and buildings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import OVERSAMPLE, Camera, Canvas, Colour
from .vehicles import dim, paint

FAR = 90.0  # metres to the end of the street
_WALLS: tuple[Colour, ...] = (
    (176, 120, 92), (150, 78, 60), (206, 196, 178), (170, 170, 168), (120, 126, 134),
    (214, 178, 128), (190, 200, 206), (132, 108, 92), (226, 222, 214), (96, 104, 116),
)  # fmt: skip


@dataclass(frozen=True)
class Street:
    """Where things may stand; all x in metres, the camera's lane around x = 0.

    Attributes:
        lanes: (x, yaw) of each lane: 0 heads away from the camera, pi towards it.
        parking: (x, yaw) of each row of parked vehicles, perhaps none.
        road: left and right edge of the carriageway.
        walks: (left, right) of each pavement.
        walls: distance of the building line on the left and on the right, signed.
    """

    lanes: tuple[tuple[float, float], ...]
    parking: tuple[tuple[float, float], ...]
    road: tuple[float, float]
    walks: tuple[tuple[float, float], tuple[float, float]]
    walls: tuple[float, float]


@dataclass(frozen=True)
class Wall:
    """A surface whose depth varies over its pixels, or not.

    Attributes:
        owner: id in the instance map.
        x: for a wall along the street, its x in metres; None for one square to the street.
        near, far: range of its depth in metres.
    """

    owner: int
    x: float | None
    near: float
    far: float


def lay_out(rng: np.random.Generator) -> Street:
    """Choose lanes, parking rows, pavements and building lines."""
    lane = rng.uniform(3.0, 3.5)
    ahead, oncoming = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    own = int(rng.integers(ahead))  # 0: next to the centre line
    first = -own * lane
    lanes = [(first + i * lane, 0.0) for i in range(ahead)]
    lanes += [(first - (i + 1) * lane, np.pi) for i in range(oncoming)]
    left = first - (oncoming + 0.5) * lane
    right = first + (ahead - 0.5) * lane
    parking = []
    if rng.random() < 0.6:
        parking.append((right + 1.15, 0.0))
        right += 2.3
    if rng.random() < 0.6:
        parking.append((left - 1.15, np.pi))
        left -= 2.3
    walk = rng.uniform(2.4, 4.0, 2)
    walks = ((left - walk[0], left), (right, right + walk[1]))
    gap = rng.uniform(0.5, 4.0, 2)
    walls = (left - walk[0] - gap[0], right + walk[1] + gap[1])
    return Street(tuple(lanes), tuple(parking), (left, right), walks, walls)


def paint_backdrop(canvas: Canvas, street: Street, rng: np.random.Generator) -> None:
    """Paint the sky, the ground and the markings; all of it belongs to owner 0."""
    _sky(canvas, rng)
    horizon = canvas.camera.horizon * OVERSAMPLE
    green = rng.random() < 0.4
    soil = (96, 122, 66) if green else (140, 134, 124)
    tone = rng.uniform(0.8, 1.15)
    canvas.pixels[max(0, round(horizon)) :] = (*dim(soil, tone), 0)
    grey = rng.uniform(70, 112)
    warm = rng.normal(0, 5)
    asphalt = (grey + warm, grey, grey - warm)
    paved = rng.uniform(128, 182)
    slab = (paved, paved - 4 + rng.normal(0, 5), paved - 10)
    if rng.random() < 0.4:
        _strips(canvas, [(street.walls[0], street.walls[1])], slab)
    _strips(canvas, list(street.walks), slab)
    left, right = street.road
    _strips(canvas, [(left, right)], asphalt)
    _strips(canvas, [(left - 0.14, left), (right, right + 0.14)], dim(slab, 1.2))
    _joints(canvas, street, dim(slab, 0.85))
    _markings(canvas, street, rng)
    for _ in range(int(rng.integers(0, 6))):  # repairs and oil stains
        x, z = rng.uniform(left, right), rng.uniform(4, 30)
        half = rng.uniform(0.3, 1.3, 2)
        patch = np.array([(x - half[0], z - half[1]), (x + half[0], z - half[1]),
                          (x + half[0], z + half[1]), (x - half[0], z + half[1])])  # fmt: skip
        canvas.quads(_flat(patch[None]), dim(asphalt, rng.uniform(0.75, 1.15)), 0)


def _sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a vertical gradient with soft clouds."""
    side, coarse = canvas.pixels.shape[0], 64
    top = np.array([90, 140, 205]) + rng.normal(0, 12, 3)
    low = np.array([190, 212, 232]) + rng.normal(0, 9, 3)
    grey = rng.choice([0.0, 0.15, 0.6])  # share of overcast
    top, low = (1 - grey) * top + grey * 178, (1 - grey) * low + grey * 205
    below = canvas.camera.horizon / canvas.camera.size
    reach = np.clip(np.linspace(0, 1 / below, coarse), 0, 1)[:, None, None]
    puffs = rng.random((9, 9)).astype(np.float32)
    cloud = cv2.resize(puffs, (coarse, coarse), interpolation=cv2.INTER_CUBIC)[..., None]
    cloud = np.clip((cloud - 0.55) * 1.8, 0, 0.8) * rng.uniform(0, 1)
    sky = ((1 - reach) * top + reach * low) * (1 - cloud) + 244 * cloud
    sky = np.concatenate([sky, np.zeros((coarse, coarse, 1))], axis=2)
    whole = np.clip(sky, 0, 255).astype(np.uint8)
    cv2.resize(whole, (side, side), dst=canvas.pixels, interpolation=cv2.INTER_LINEAR)


def _flat(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (m, n, 3) ground points of (m, n, 2) corners (x, z)."""
    return np.stack([corners[..., 0], np.zeros(corners.shape[:-1]), corners[..., 1]], axis=-1)


def _strips(canvas: Canvas, spans: list[tuple[float, float]], colour: Colour) -> None:
    """Fill bands of the ground between two x, from the camera to the end of the street."""
    corners = [[(a, 0.8), (b, 0.8), (b, 900.0), (a, 900.0)] for a, b in spans]
    canvas.quads(_flat(np.array(corners)), colour, 0)


def _joints(canvas: Canvas, street: Street, colour: Colour) -> None:
    """Draw the cross joints of the pavements."""
    z = np.arange(2.0, 40.0, 1.5)
    for a, b in street.walks:
        corners = np.stack(
            [
                np.stack([np.full_like(z, x), z + dz], axis=1)
                for x, dz in ((a, 0), (b, 0), (b, 0.06), (a, 0.06))
            ],
            axis=1,
        )
        canvas.quads(_flat(corners), colour, 0)


def _markings(canvas: Canvas, street: Street, rng: np.random.Generator) -> None:
    """Draw lane lines, edge lines, perhaps a zebra crossing and a stop line."""
    wear = rng.uniform(0.75, 1.0)
    white = dim((235, 235, 228), wear)
    centre = dim((228, 190, 70), wear) if rng.random() < 0.3 else white
    lanes = sorted(street.lanes)
    period, phase = rng.uniform(4, 7), rng.uniform(0, 5)
    starts = np.arange(phase, 70, period)
    for (x0, yaw0), (x1, yaw1) in pairwise(lanes):
        x = (x0 + x1) / 2
        if yaw0 != yaw1:
            shifts = (-0.16, 0.16) if rng.random() < 0.5 else (0.0,)
            _strips(canvas, [(x + s - 0.06, x + s + 0.06) for s in shifts], centre)
            continue
        corners = np.stack(
            [
                np.stack([np.full_like(starts, x + dx), starts + dz], axis=1)
                for dx, dz in ((-0.07, 0), (0.07, 0), (0.07, 2), (-0.07, 2))
            ],
            axis=1,
        )
        canvas.quads(_flat(corners), white, 0)
    half = (lanes[1][0] - lanes[0][0]) / 2
    edges = (lanes[0][0] - half, lanes[-1][0] + half)
    _strips(canvas, [(x - 0.07, x + 0.07) for x in edges], white)
    if rng.random() < 0.35:
        z = rng.uniform(7, 24)
        bars = np.arange(street.road[0] + 0.3, street.road[1] - 0.5, 1.0)
        corners = np.stack(
            [
                np.stack([bars + dx, np.full_like(bars, z + dz)], axis=1)
                for dx, dz in ((0, 0), (0.5, 0), (0.5, 3), (0, 3))
            ],
            axis=1,
        )
        canvas.quads(_flat(corners), white, 0)


def build(
    canvas: Canvas, street: Street, rng: np.random.Generator, first: int
) -> tuple[list[Wall], int]:
    """Draw skyline and buildings with owners from `first`; return them and the next free id."""
    walls: list[Wall] = []
    owner = first
    for near in sorted(rng.uniform(FAR, 2.2 * FAR, int(rng.integers(2, 7))).tolist())[::-1]:
        x = rng.uniform(-1, 1) * 0.5 * near
        haze = dim((150, 160, 172), rng.uniform(0.75, 1.1))
        wide, tall = rng.uniform(6, 22), rng.uniform(5, 34)
        corners = np.array([[(x - wide, 0, near), (x + wide, 0, near),
                             (x + wide, tall, near), (x - wide, tall, near)]])  # fmt: skip
        canvas.quads(corners, haze, owner)
        walls.append(Wall(owner, None, near, near))
        owner += 1
    for side, x in zip((-1, 1), street.walls, strict=True):
        open_side = rng.random() < 0.2  # a park or a square: no buildings near
        z = rng.uniform(24, 40) if open_side else rng.uniform(-6, 8)
        houses = []
        while z < FAR:
            deep = rng.uniform(9, 24)
            houses.append((z, z + deep))
            z += deep + (rng.uniform(3, 9) if rng.random() < 0.3 else 0.0)
        for near, far in houses[::-1]:
            set_back = x + side * rng.choice([0.0, 0.0, 1.5])
            _house(canvas, rng, set_back, side, near, far, owner)
            walls.append(Wall(owner, set_back, max(near, 0.6), far))
            walls.append(Wall(owner + 1, None, max(near, 0.6), max(near, 0.6)))
            owner += 2
    return walls, owner


def _house(
    canvas: Canvas,
    rng: np.random.Generator,
    x: float,
    side: int,
    near: float,
    far: float,
    owner: int,
) -> None:
    """Draw one house: the wall along the street (owner) and its near end (owner + 1)."""
    near = max(near, 0.6)
    wall = dim(_WALLS[rng.integers(len(_WALLS))], rng.uniform(0.85, 1.1))
    storey = rng.uniform(2.9, 3.6)
    floors = int(rng.integers(2, 8))
    tall = storey * floors + rng.uniform(0.3, 1.2)
    front = canvas.shade((-float(side), 0.0, 0.0))
    cross = canvas.shade((0.0, 0.0, -1.0))
    back = x + side * 14.0
    ends = np.array([[(x, 0, near), (back, 0, near), (back, tall, near), (x, tall, near)]])
    canvas.quads(ends, dim(wall, cross), owner + 1)
    face = np.array([[(x, 0, near), (x, 0, far), (x, tall, far), (x, tall, near)]])
    canvas.quads(face, dim(wall, front), owner)
    trim = np.array([[(x, tall - 0.35, near), (x, tall - 0.35, far), (x, tall, far),
                      (x, tall, near)]])  # fmt: skip
    canvas.quads(trim, dim(wall, 0.75 * front), owner)
    glass = dim((62, 78, 96), rng.uniform(0.7, 1.5))
    pitch, share = rng.uniform(1.8, 3.4), rng.uniform(0.45, 0.8)
    along = np.arange(near + 0.4, far - share * pitch, pitch)
    panes = [(z, z + share * pitch, storey * k + 0.9, storey * k + storey - 0.45)
             for k in range(1, floors) for z in along.tolist()]  # fmt: skip
    _windows(canvas, x, panes, dim(glass, front), owner)
    canvas_z = np.arange(near + 0.4, far - 2.6, 3.4)
    shop = dim(paint(rng), 0.8)
    shops = [(z, z + 2.6, 0.4, 2.4) for z in canvas_z.tolist()]
    _windows(canvas, x, shops, dim(glass, 1.2 * front), owner)
    if rng.random() < 0.6:  # a shop sign above the ground floor
        band = np.array([[(x, 2.5, near), (x, 2.5, far), (x, 3.0, far), (x, 3.0, near)]])
        canvas.quads(band, dim(shop, front), owner)
    lit = rng.random(len(panes) + len(shops))
    for chance, pane in zip(lit.tolist(), panes + shops, strict=True):
        if chance < 0.28:
            canvas.lamp_on_wall(x, pane, owner)


def _windows(
    canvas: Canvas,
    x: float,
    panes: list[tuple[float, float, float, float]],
    colour: Colour,
    owner: int,
) -> None:
    """Fill rectangles (z0, z1, y0, y1) of a wall along the street."""
    if panes:
        z0, z1, y0, y1 = np.array(panes).T
        flat = np.full_like(z0, x)
        corners = np.stack(
            [np.stack([flat, y, z], axis=1) for y, z in ((y0, z0), (y0, z1), (y1, z1), (y1, z0))],
            axis=1,
        )
        canvas.quads(corners, colour, owner)


def wall_depth(
    walls: list[Wall], instances: NDArray[np.uint8], depth: NDArray[np.float32], camera: Camera
) -> None:
    """Write the depth of buildings in place; `depth` and `instances` are (size, size)."""
    columns = np.arange(camera.size, dtype=np.float32) + 0.5 - 0.5 * camera.size
    columns[np.abs(columns) < 0.5] = 0.5
    along = np.zeros(256, dtype=np.float32)
    near, far = np.full(256, np.nan, np.float32), np.full(256, np.nan, np.float32)
    for wall in walls:
        along[wall.owner] = 0.0 if wall.x is None else wall.x
        near[wall.owner], far[wall.owner] = wall.near, wall.far
    distance = np.clip(camera.focal * along[instances] / columns, near[instances], far[instances])
    chosen = ~np.isnan(near[instances])
    depth[chosen] = distance[chosen]
