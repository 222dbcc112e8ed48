"""Cars, buses and trucks as small boxy models with windows, wheels and lamps."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from .canvas import Colour, Floats, Model, Piece

GLASS: Colour = (45, 62, 80)
TYRE: Colour = (26, 26, 28)
RED: Colour = (215, 30, 25)
WHITE: Colour = (250, 246, 225)
AMBER: Colour = (255, 170, 40)
_PAINTS: tuple[Colour, ...] = (
    (200, 32, 36), (32, 70, 165), (232, 232, 228), (58, 60, 64), (150, 154, 158), (28, 110, 70),
    (228, 176, 36), (120, 60, 34), (90, 150, 200), (110, 30, 60), (225, 110, 40), (186, 172, 140),
)  # fmt: skip
_CIRCLE = np.array([(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * math.pi, 19)[:-1]])


def paint(rng: np.random.Generator) -> Colour:
    """Return a random body colour: one of the usual paints, varied."""
    base = np.array(_PAINTS[rng.integers(len(_PAINTS))]) + rng.normal(0, 16, 3)
    r, g, b = np.clip(base, 12, 245).tolist()
    return r, g, b


def dim(colour: Colour, factor: float) -> Colour:
    """Return a darker (factor < 1) or lighter colour, clipped at 255."""
    r, g, b = (min(255.0, value * factor) for value in colour)
    return r, g, b


def loft(profile: Floats | list[tuple[float, float, float]], colour: Colour) -> list[Piece]:
    """Return the faces of a convex body given by its side view.

    Args:
        profile: (n, 3) corners in order, each (z, y, half width) in metres.
        colour: RGB of all faces.
    """
    rows = np.asarray(profile, dtype=np.float64).tolist()
    pieces = sides(rows, colour)
    mz, my = sum(r[0] for r in rows) / len(rows), sum(r[1] for r in rows) / len(rows)
    for (z0, y0, w0), (z1, y1, w1) in zip(rows, rows[1:] + rows[:1], strict=True):
        nz, ny = y1 - y0, z0 - z1  # square to the edge
        if nz * (z0 - mz) + ny * (y0 - my) < 0:
            nz, ny = -nz, -ny
        norm = math.hypot(nz, ny) + 1e-9
        points = np.array([(-w0, y0, z0), (w0, y0, z0), (w1, y1, z1), (-w1, y1, z1)])
        pieces.append(Piece(points, colour, normal=(0.0, ny / norm, nz / norm)))
    return pieces


def box(
    half: float, low: float, high: float, rear: float, front: float, colour: Colour
) -> list[Piece]:
    """Return an upright box from x = -half to half, y = low to high, z = rear to front."""
    profile = [(rear, low, half), (rear, high, half), (front, high, half), (front, low, half)]
    return loft(profile, colour)


def sides(rows: Floats | list[tuple[float, float, float]], colour: Colour) -> list[Piece]:
    """Return a polygon of (z, y, half width) rows on both flanks."""
    right = np.asarray(rows, dtype=np.float64)[:, ::-1]
    left = right * (-1.0, 1.0, 1.0)
    return [
        Piece(right, colour, normal=(1.0, 0.0, 0.0)),
        Piece(left, colour, normal=(-1.0, 0.0, 0.0)),
    ]


def end(
    x0: float, x1: float, y0: float, y1: float, z: float, colour: Colour, glow: str = ""
) -> Piece:
    """Return a rectangle that faces ahead (z > 0) or back (z < 0)."""
    points = np.array([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)])
    return Piece(points, colour, normal=(0.0, 0.0, math.copysign(1.0, z)), glow=glow)


def pair(
    inner: float, outer: float, y0: float, y1: float, z: float, colour: Colour, glow: str
) -> list[Piece]:
    """Return the same lamp on the left and the right of an end face."""
    return [
        end(-outer, -inner, y0, y1, z, colour, glow),
        end(inner, outer, y0, y1, z, colour, glow),
    ]


def tyres(places: list[float], radius: float, half: float) -> list[Piece]:
    """Return the tyres as dark blocks, to be drawn before the body."""
    pieces = []
    for z in places:
        for x in (-half + 0.14, half - 0.14):
            r, w = radius * 0.94, 0.13
            block = box(w, 0.0, 2 * r, z - r * 0.8, z + r * 0.8, TYRE)
            pieces += [
                Piece(p.points + np.array([x, 0, 0]), p.colour, normal=p.normal) for p in block
            ]
    return pieces


def rims(places: list[float], radius: float, half: float, hub: Colour) -> list[Piece]:
    """Return wheel discs on both flanks, to be drawn after the body."""
    pieces = []
    for z in places:
        for r, colour in ((radius, TYRE), (0.55 * radius, hub)):
            circle = _CIRCLE * r + np.array([z, radius])
            rows = np.concatenate([circle, np.full((len(circle), 1), half + 0.01)], axis=1)
            pieces += sides(rows, colour)
    return pieces


def car(rng: np.random.Generator) -> Model:
    """Return a saloon, a hatchback or a tall estate car: low body, glass cabin, two axles."""
    colour = paint(rng)
    style = rng.choice(["saloon", "hatch", "tall"])
    roof = {"saloon": 1.45, "hatch": 1.5, "tall": 1.78}[style] * rng.uniform(0.97, 1.03)
    belt = {"saloon": 0.88, "hatch": 0.9, "tall": 1.05}[style]
    length = {"saloon": 4.5, "hatch": 3.8, "tall": 4.4}[style]
    tail = {"saloon": -0.85, "hatch": -0.5, "tall": -0.35}[style] + 0.3 * rng.uniform(-1, 1)
    back, nose, half = -length / 2, length / 2, 0.9
    body = loft(
        [(back, 0.3, half), (back, belt, half * 0.98), (nose - 1.2, belt + 0.02, half),
         (nose, belt - 0.16, half * 0.96), (nose, 0.3, half)], colour,
    )  # fmt: skip
    b0, b1 = (back + 0.15 if style != "saloon" else back + 0.75), nose - 1.05
    t0, t1 = b0 + 0.35 + 0.3 * (tail + 1), b1 - 0.75
    cabin = loft([(b0, belt, 0.86), (t0, roof, 0.66), (t1, roof, 0.66), (b1, belt, 0.86)], colour)
    low, high = belt + 0.05, roof - 0.1
    glass = sides(
        [(b0 + 0.25, low, 0.86), (t0 + 0.08, high, 0.69), (t1 - 0.05, high, 0.69),
         (b1 - 0.25, low, 0.86)], GLASS,
    )  # fmt: skip
    middle = (b0 + b1) / 2
    glass += sides([(middle - 0.06, low, 0.87), (middle - 0.06, high, 0.7),
                    (middle + 0.06, high, 0.7), (middle + 0.06, low, 0.87)], colour)  # fmt: skip
    glass += [_pane(b0, t0, belt, roof, back=True), _pane(b1, t1, belt, roof, back=False)]
    ends = [end(-half, half, 0.3, 0.45, back - 0.01, dim(colour, 0.45))]
    ends += pair(0.55, 0.86, belt - 0.28, belt - 0.06, back - 0.01, RED, "tail")
    ends += [end(-0.24, 0.24, 0.5, 0.62, back - 0.01, (235, 235, 225))]
    ends += [end(-half, half, 0.3, 0.42, nose + 0.01, dim(colour, 0.45))]
    ends += [end(-0.45, 0.45, 0.42, belt - 0.24, nose + 0.01, (30, 30, 34))]
    ends += pair(0.52, 0.84, belt - 0.36, belt - 0.17, nose + 0.01, WHITE, "head")
    wheels = [back + 0.8, nose - 0.8]
    pieces = tyres(wheels, 0.33, half) + body + cabin + glass + ends
    pieces += rims(wheels, 0.34, half, (170, 172, 176))
    return Model([pieces], length, 2 * half, roof)


def _pane(base: float, top: float, belt: float, roof: float, *, back: bool) -> Piece:
    """Return the windscreen or rear window of a car's sloped cabin end."""
    points = []
    for t, x in ((0.1, -0.76), (0.1, 0.76), (0.88, 0.62), (0.88, -0.62)):
        lean = -0.015 if back else 0.015
        points.append((x, belt + t * (roof - belt), base + t * (top - base) + lean))
    return Piece(np.array(points), GLASS, normal=(0.0, 0.3, -0.95 if back else 0.95))


def bus(rng: np.random.Generator) -> Model:
    """Return a city bus: one long tall box with a row (or two) of big windows and a board."""
    colour, stripe = paint(rng), paint(rng)
    length, half = rng.uniform(8.5, 11.0), 1.27
    double = rng.random() < 0.15
    roof = 4.1 if double else rng.uniform(2.95, 3.2)
    back, nose = -length / 2, length / 2
    pieces = tyres([back + 1.9, nose - 2.2], 0.48, half)
    pieces += box(half, 0.32, roof, back, nose, colour)
    pieces += sides(_band(back, nose, 0.62, 0.95, half), stripe)
    decks = [(1.25, 2.15), (2.75, 3.65)] if double else [(1.3, roof - 0.5)]
    count = round(length / 1.45)
    edges = np.linspace(back + 0.25, nose - 0.2, count + 1)
    for low, high in decks:
        pieces += [p for a, b in pairwise(edges)
                   for p in sides(_band(a + 0.07, b - 0.07, low, high, half), GLASS)]  # fmt: skip
        pieces.append(end(-1.1, 1.1, low + 0.1, high, back - 0.01, GLASS))
        pieces.append(end(-1.18, 1.18, low - 0.25, high, nose + 0.01, GLASS))
    door = _band(nose - 1.5, nose - 0.45, 0.4, 2.2, half + 0.01)
    pieces += [sides(door, dim(GLASS, 1.5))[0]]
    pieces += [end(-0.85, 0.85, roof - 0.42, roof - 0.1, nose + 0.02, AMBER, "signal")]
    pieces += [end(-0.02, 0.02, 1.1, decks[0][1], nose + 0.02, colour)]
    pieces += [end(-half, half, 0.32, 0.55, back - 0.01, dim(colour, 0.5))]
    pieces += pair(0.95, 1.2, 0.7, 1.15, back - 0.02, RED, "tail")
    pieces += [end(-half, half, 0.32, 0.5, nose + 0.01, dim(colour, 0.5))]
    pieces += pair(0.75, 1.15, 0.58, 0.85, nose + 0.02, WHITE, "head")
    pieces += rims([back + 1.9, nose - 2.2], 0.48, half, (150, 150, 150))
    return Model([pieces], length, 2 * half, roof)


def _band(
    rear: float, front: float, low: float, high: float, half: float
) -> list[tuple[float, float, float]]:
    """Return an upright rectangle on a flank as (z, y, half width) rows."""
    return [(rear, low, half), (rear, high, half), (front, high, half), (front, low, half)]


def truck(rng: np.random.Generator) -> Model:
    """Return a lorry: a cab, a gap, and a windowless box, an open tipper or a round tank."""
    colour, load = paint(rng), paint(rng)
    style = rng.choice(["box", "box", "tipper", "tank"])
    length, half = rng.uniform(6.6, 8.4), 1.2
    back, nose = -length / 2, length / 2
    top = {"box": rng.uniform(3.1, 3.5), "tipper": 2.35, "tank": 2.75}[style]
    wheels = [back + 0.9, back + 2.0, nose - 1.0]
    chassis = tyres(wheels, 0.5, half) + box(0.5, 0.55, 0.95, back + 0.2, nose - 1.6, (40, 40, 42))
    chassis += rims(wheels, 0.5, half - 0.02, (120, 120, 124))
    rest, gap = 0.95, nose - 2.2
    cargo = (
        _tank(back, gap, rest, top, load)
        if style == "tank"
        else box(half, rest, top, back, gap, load)
    )
    if style == "box":
        cargo += [end(-0.04, 0.04, rest + 0.05, top - 0.08, back - 0.01, dim(load, 0.5))]
        cargo += [end(x - 0.03, x + 0.03, rest + 0.1, top - 0.15, back - 0.01, dim(load, 0.65))
                  for x in (-0.75, 0.75)]  # fmt: skip
        cargo += sides(_band(back + 0.5, gap - 0.5, rest + 0.8, rest + 1.35, half + 0.01),
                       paint(rng))  # fmt: skip
    elif style == "tipper":
        for z in np.linspace(back + 0.2, gap - 0.3, 5).tolist():
            cargo += sides(_band(z, z + 0.12, rest, top, half + 0.01), dim(load, 0.6))
        for x in (-1.1, -0.4, 0.3, 1.0):
            cargo += [end(x, x + 0.1, rest, top, back - 0.01, dim(load, 0.6))]
        heap = [(back + 0.2, top, 1.0), ((back + gap) / 2, top + 0.55, 0.3), (gap - 0.2, top, 1.0)]
        cargo += loft(heap, (130, 104, 70))
    cargo += [end(-half, half, 0.5, 0.66, back - 0.02, (52, 52, 54))]
    cargo += pair(0.8, 1.15, 0.66, 0.88, back - 0.03, RED, "tail")
    cab = _cab(rng.uniform(2.45, 2.8), nose, half, colour)
    return Model([chassis + cargo, cab], length, 2 * half, max(top, 2.8))


def _tank(back: float, front: float, low: float, high: float, colour: Colour) -> list[Piece]:
    """Return a lying cylinder as three stacked bodies with a ring at its end."""
    middle, third = (low + high) / 2, (high - low) / 2
    ring = _CIRCLE * third
    wide = 1.15 / third
    pieces = box(1.15, low + 0.5 * third, high - 0.5 * third, back, front, dim(colour, 0.9))
    slope = [(back, low + 0.5 * third, 1.15), (back, low, 0.6), (front, low, 0.6),
             (front, low + 0.5 * third, 1.15)]  # fmt: skip
    pieces += loft(slope, dim(colour, 0.6))
    slope = [(back, high - 0.5 * third, 1.15), (back, high, 0.6), (front, high, 0.6),
             (front, high - 0.5 * third, 1.15)]  # fmt: skip
    pieces += loft(slope, dim(colour, 1.25))
    for scale, tone in ((1.0, 1.0), (0.62, 0.75)):
        disc = np.stack([ring[:, 0] * wide * scale, middle + ring[:, 1] * scale,
                         np.full(len(ring), back - 0.01)], axis=1)  # fmt: skip
        pieces.append(Piece(disc, dim(colour, tone), normal=(0.0, 0.0, -1.0)))
    return pieces


def _cab(roof: float, nose: float, half: float, colour: Colour) -> list[Piece]:
    """Return a lorry's upright cab with a windscreen, side window and a dark grille."""
    profile = [
        (nose - 1.9, 0.55, half),
        (nose - 1.9, roof, half * 0.97),
        (nose - 0.25, roof, half * 0.95),
        (nose, 1.45, half),
        (nose, 0.5, half),
    ]
    pieces = loft(profile, colour)
    pieces += sides(_band(nose - 1.3, nose - 0.35, 1.5, roof - 0.25, half + 0.01), GLASS)
    screen = np.array(
        [
            (-1.05, 1.5, nose + 0.01),
            (1.05, 1.5, nose + 0.01),
            (1.0, roof - 0.15, nose - 0.2),
            (-1.0, roof - 0.15, nose - 0.2),
        ]
    )
    pieces.append(Piece(screen, GLASS, normal=(0.0, 0.2, 0.98)))
    pieces += [end(-0.75, 0.75, 0.85, 1.3, nose + 0.01, (32, 32, 36))]
    pieces += [end(-half, half, 0.5, 0.62, nose + 0.02, (45, 45, 48))]
    pieces += pair(0.78, 1.14, 0.66, 0.86, nose + 0.02, WHITE, "head")
    return pieces
