"""A pinhole camera and a painter's-algorithm canvas for small 3-D models made of flat pieces."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]  # RGB, 0..255
Floats = NDArray[Any]  # of floats

OVERSAMPLE = 2  # the canvas is drawn this much larger and averaged down
_SHIFT = 4  # fractional bits of OpenCV's fixed-point coordinates


@dataclass(frozen=True)
class Camera:
    """Pinhole camera above a flat ground, looking along +z; x to the right, y up, in metres.

    Attributes:
        size: width and height of the image in pixels.
        focal: focal length in pixels.
        horizon: image row of the horizon in pixels.
        height: height above the ground in metres.
    """

    size: int
    focal: float
    horizon: float
    height: float

    def project(self, points: Floats) -> Floats:
        """Return image coordinates (n, 2) in pixels of world points (n, 3) with z > 0."""
        image = points[:, :2] * (self.focal, -self.focal)
        image[:, 1] += self.focal * self.height
        image /= points[:, 2:]
        image += (0.5 * self.size, self.horizon)
        return image

    def ground_depth(self) -> NDArray[np.float32]:
        """Return, per pixel (size, size), the distance of the ground in metres, inf for sky."""
        rows = np.arange(self.size, dtype=np.float32) + 0.5 - self.horizon
        depth = np.full(self.size, np.inf, dtype=np.float32)
        depth[rows > 0] = self.focal * self.height / rows[rows > 0]
        return np.repeat(depth[:, None], self.size, axis=1)


@dataclass(frozen=True)
class Piece:
    """One flat piece of a model, in the model's own metres (x right, y up, z ahead).

    Attributes:
        points: (n, 3) corners of a face, vertices of a stroke, or the centre of a ball.
        colour: RGB, 0..255.
        kind: filled polygon, thick polyline or ball.
        width: thickness of a stroke or radius of a ball, in metres.
        normal: outward direction; the piece is skipped when it looks away. None: always drawn.
        glow: name of the kind of lamp that this piece is at night, "" for none.
    """

    points: Floats
    colour: Colour
    kind: Literal["face", "stroke", "ball"] = "face"
    width: float = 0.0
    normal: tuple[float, float, float] | None = None
    glow: str = ""


@dataclass(frozen=True)
class Model:
    """Parts in any order (the farther is drawn first), each a list of pieces in drawing order.

    `length`, `width` and `height` are the outer sizes in metres along z, x and y.
    """

    parts: list[list[Piece]]
    length: float
    width: float
    height: float


@dataclass(frozen=True)
class Light:
    """A lamp in the scene that shines at night.

    Attributes:
        kind: "head", "tail", "street", "window" or "signal".
        position: (x, y, z) in metres.
        outline: (n, 2) polygon in pixels of the final image, n = 1 for a ball.
        radius: half its larger extent in pixels.
        colour: RGB, 0..255.
        owner: id in the instance map of the thing that carries the lamp.
    """

    kind: str
    position: tuple[float, float, float]
    outline: Floats
    radius: float
    colour: Colour
    owner: int


@dataclass
class Canvas:
    """Colour and owner of every pixel, drawn from far to near.

    `pixels` is (size * OVERSAMPLE, size * OVERSAMPLE, 4) uint8: RGB and the owner's id.
    `sun` is the direction towards the sun, `ambient` the light on a face turned away from it.
    """

    camera: Camera
    sun: tuple[float, float, float]
    ambient: float
    pixels: NDArray[np.uint8] = field(init=False)
    lights: list[Light] = field(default_factory=list)

    def __post_init__(self) -> None:
        side = self.camera.size * OVERSAMPLE
        self.pixels = np.zeros((side, side, 4), dtype=np.uint8)

    def polygons(self, corners: list[Floats], colour: Colour, owner: int) -> None:
        """Fill polygons, each (n, 2) in pixels of the final image, with one colour."""
        fixed = [_fixed(points) for points in corners]
        cv2.fillPoly(self.pixels, fixed, (*colour, owner), cv2.LINE_8, _SHIFT)

    def quads(self, corners: Floats, colour: Colour, owner: int) -> None:
        """Fill many world polygons (m, n, 3) at once; pieces behind the camera are cut off."""
        if len(corners) == 0:
            return
        points = np.array(corners, dtype=np.float64)
        points[..., 2] = np.maximum(points[..., 2], 0.6)
        flat = self.camera.project(points.reshape(-1, 3))
        fixed = _fixed(np.clip(flat, -4e3, 4e3)).reshape(*points.shape[:2], 2)
        for polygon in fixed:  # one call each: a joint call would cut holes where they overlap
            cv2.fillConvexPoly(self.pixels, polygon, (*colour, owner), cv2.LINE_8, _SHIFT)

    def shade(self, normal: tuple[float, float, float]) -> float:
        """Return the brightness of a face: ambient light plus Lambert's cosine."""
        return float(self._shades(np.array([normal]))[0])

    def _shades(self, normals: Floats) -> NDArray[np.float64]:
        return self.ambient + (1 - self.ambient) * np.maximum(0.0, normals @ self.sun)

    def model(self, model: Model, *, x: float, z: float, yaw: float, owner: int) -> None:
        """Draw `model` standing on the ground at (x, z), its front turned by `yaw` from +z."""
        cos, sin = math.cos(yaw), math.sin(yaw)
        turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])  # row vectors: local @ turn
        shift = np.array([x, 0.0, z])
        worlds = [np.concatenate([p.points for p in part]) @ turn + shift for part in model.parts]
        reach = [float(np.hypot(w[:, 0].mean(), w[:, 2].mean())) for w in worlds]
        for index in sorted(range(len(worlds)), key=lambda i: -reach[i]):
            self._part(model.parts[index], worlds[index], turn, owner)

    def _part(self, pieces: list[Piece], world: Floats, turn: Floats, owner: int) -> None:
        """Draw the pieces that face the camera; `world` (n, 3) holds all their points."""
        counts = [len(piece.points) for piece in pieces]
        starts = np.cumsum([0, *counts])
        centres = np.add.reduceat(world, starts[:-1], axis=0) / np.array(counts)[:, None]
        eye = centres - (0.0, self.camera.height, 0.0)
        normals = np.array([piece.normal or (0.0, 0.0, 0.0) for piece in pieces]) @ turn
        bare = np.array([piece.normal is None for piece in pieces])
        seen = bare | ((normals * eye).sum(axis=1) < 0)
        shades = np.where(bare, 0.5 * (1 + self.ambient), self._shades(normals))
        colours = (np.array([piece.colour for piece in pieces]) * shades[:, None]).tolist()
        image = self.camera.project(world)
        fixed = _fixed(image)
        bounds = starts.tolist()
        for i in np.flatnonzero(seen).tolist():
            piece, span = pieces[i], slice(bounds[i], bounds[i + 1])
            depth = float(centres[i, 2])
            self._piece(piece, fixed[span], (*colours[i], owner), depth)
            if piece.glow:
                self._lamp(piece, centres[i], image[span], owner)

    def _piece(
        self, piece: Piece, fixed: NDArray[np.int32], value: tuple[float, ...], depth: float
    ) -> None:
        scale = self.camera.focal * OVERSAMPLE / depth  # canvas pixels in a metre
        if piece.kind == "face":
            cv2.fillPoly(self.pixels, [fixed], value, cv2.LINE_8, _SHIFT)
        elif piece.kind == "stroke":
            thick = max(1, round(piece.width * scale))
            cv2.polylines(self.pixels, [fixed], False, value, thick, cv2.LINE_8, _SHIFT)
        else:
            u, v = fixed[0].tolist()
            radius = max(1, round(piece.width * scale * (1 << _SHIFT)))
            cv2.circle(self.pixels, (u, v), radius, value, -1, cv2.LINE_8, _SHIFT)

    def _lamp(self, piece: Piece, centre: Floats, outline: Floats, owner: int) -> None:
        """Record a glowing piece."""
        x, y, z = centre.tolist()
        radius = piece.width * self.camera.focal / z
        if piece.kind == "face":
            radius = 0.5 * float((outline.max(axis=0) - outline.min(axis=0)).max())
        self.lights.append(Light(piece.glow, (x, y, z), outline, radius, piece.colour, owner))

    def lamp_on_wall(self, x: float, pane: tuple[float, float, float, float], owner: int) -> None:
        """Record a window (z0, z1, y0, y1) of a wall along the street that is lit at night."""
        z0, z1, y0, y1 = pane
        corners = np.array([(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)])
        outline = self.camera.project(corners)
        middle = (x, (y0 + y1) / 2, (z0 + z1) / 2)
        self.lights.append(Light("window", middle, outline, 0.0, (255, 206, 130), owner))

    def darken_ground(self, outline: Floats, factor: float) -> None:
        """Multiply the colours inside a polygon (n, 3) on the ground by `factor`: a shadow."""
        flat = _fixed(self.camera.project(outline))
        whole = flat >> _SHIFT
        side = self.pixels.shape[0]
        x0, y0 = np.clip(whole.min(axis=0) - 1, 0, side).tolist()
        x1, y1 = np.clip(whole.max(axis=0) + 2, 0, side).tolist()
        if x0 >= x1 or y0 >= y1:
            return
        inside = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
        offset = np.array([x0, y0], dtype=np.int32) << _SHIFT
        cv2.fillPoly(inside, [flat - offset], 255, cv2.LINE_8, _SHIFT)
        patch = self.pixels[y0:y1, x0:x1]
        chosen = (inside > 0) & (patch[..., 3] == 0)
        patch[chosen, :3] = (patch[chosen, :3] * factor).astype(np.uint8)

    def extent(self, owner: int) -> tuple[int, int, int, int, int]:
        """Return x0, y0, x1, y1 (exclusive, final pixels) and the canvas area of an owner.

        The area is 0 where nothing of it is on the canvas.
        """
        own = cv2.inRange(self.pixels, (0, 0, 0, owner), (255, 255, 255, owner))
        x, y, width, height = cv2.boundingRect(own)
        right, bottom = x + width, y + height
        end = (-(-right // OVERSAMPLE), -(-bottom // OVERSAMPLE))
        return x // OVERSAMPLE, y // OVERSAMPLE, *end, cv2.countNonZero(own)


def _fixed(points: Floats) -> NDArray[np.int32]:
    """Return canvas coordinates in OpenCV's fixed point (pixel centres are whole numbers)."""
    return np.round((points * OVERSAMPLE - 0.5) * (1 << _SHIFT)).astype(np.int32)
