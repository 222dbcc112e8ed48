"""Persons, bicycles, motorcycles and their riders, made of strokes and balls."""

from __future__ import annotations

import math

import numpy as np

from .canvas import Colour, Model, Piece
from .vehicles import GLASS, RED, TYRE, WHITE, box, dim, loft, paint

_SKINS: tuple[Colour, ...] = ((236, 190, 156), (198, 142, 104), (140, 92, 62), (88, 58, 42))
_HAIRS: tuple[Colour, ...] = ((36, 26, 22), (96, 60, 34), (196, 160, 96), (120, 118, 116))
_ROUND = np.linspace(0, 2 * math.pi, 21)


def stroke(points: list[tuple[float, float, float]], width: float, colour: Colour) -> Piece:
    """Return a thick polyline through (x, y, z) points in metres."""
    return Piece(np.array(points, dtype=np.float64), colour, kind="stroke", width=width)


def ball(
    centre: tuple[float, float, float], radius: float, colour: Colour, glow: str = ""
) -> Piece:
    """Return a ball, always seen as a disc."""
    return Piece(np.array([centre]), colour, kind="ball", width=radius, glow=glow)


def hoop(z: float, radius: float, width: float, colour: Colour) -> Piece:
    """Return a standing wheel's tyre as a ring."""
    points = [(0.0, radius + radius * math.sin(a), z + radius * math.cos(a)) for a in _ROUND]
    return stroke(points, width, colour)


def _pick(rng: np.random.Generator, options: tuple[Colour, ...]) -> Colour:
    return options[rng.integers(len(options))]


def person(rng: np.random.Generator) -> Model:
    """Return somebody who stands or walks: head, torso, two arms and two legs."""
    tall = rng.uniform(1.6, 1.88)
    shirt, trousers, skin = paint(rng), dim(paint(rng), 0.6), _pick(rng, _SKINS)
    stride = rng.choice([0.04, 0.18, 0.24]) * rng.choice([-1, 1]) * tall
    hip, neck = 0.5 * tall, 0.83 * tall
    pieces = []
    for x, swing in ((-0.055, stride), (0.055, -stride)):
        x = x * tall
        knee = (x, 0.27 * tall, 0.55 * swing + 0.02 * tall)
        foot = (x, 0.04, swing)
        pieces.append(stroke([(x, hip, 0.0), knee, foot], 0.095 * tall, trousers))
        pieces.append(stroke([foot, (x, 0.04, swing + 0.1)], 0.08, (34, 30, 28)))
    arms = []
    for x, swing in ((-0.155, -stride), (0.155, stride)):
        elbow = (x * tall, 0.64 * tall, 0.3 * swing - 0.03)
        arms.append(
            stroke(
                [
                    (0.13 / 0.155 * x * tall, 0.79 * tall, 0.0),
                    elbow,
                    (x * tall, 0.5 * tall, 0.8 * swing),
                ],
                0.062 * tall,
                dim(shirt, 0.8),
            )
        )
        arms.append(ball((x * tall, 0.48 * tall, 0.85 * swing), 0.033 * tall, skin))
    deep = 0.065 * tall
    wide = 0.125 * tall
    hem = 0.36 * tall if rng.random() < 0.3 else hip - 0.03 * tall  # a coat or a shirt
    torso = loft([(-deep, hem, 0.8 * wide), (-deep, neck - 0.01, wide), (deep, neck - 0.01, wide),
                  (deep, hem, 0.8 * wide)], shirt)  # fmt: skip
    pieces += arms[:2] + torso + arms[2:]
    if rng.random() < 0.25:
        bag = box(0.09 * tall, 0.58 * tall, 0.8 * tall, -0.17 * tall, -deep, paint(rng))
        pieces += bag
    pieces += _head(0.918 * tall, 0.0, 0.078 * tall, skin, _pick(rng, _HAIRS))
    return Model([pieces], 0.55, 0.55, tall)


def _head(y: float, z: float, radius: float, skin: Colour, hair: Colour) -> list[Piece]:
    """Return a neck, a face and hair on top of it."""
    return [
        stroke([(0, y - 1.5 * radius, z - 0.01), (0, y, z)], 0.9 * radius, dim(skin, 0.8)),
        ball((0, y + 0.1 * radius, z - 0.02), 1.02 * radius, hair),
        ball((0, y - 0.25 * radius, z + 0.03), 0.8 * radius, skin),
    ]


def bike(rng: np.random.Generator) -> Model:
    """Return a bicycle: two thin hoops, an open frame, a saddle and handlebars."""
    colour = paint(rng)
    radius, base = 0.35, 0.54
    rear, front = (0.0, radius, -base), (0.0, radius, base)
    crank, seat, head = (0.0, 0.3, -0.06), (0.0, 0.88, -0.22), (0.0, 0.9, 0.36)
    pieces = [hoop(-base, radius, 0.055, TYRE), hoop(base, radius, 0.055, TYRE)]
    for z in (-base, base):
        pieces.append(stroke([(0, 0.04, z), (0, 2 * radius - 0.04, z)], 0.012, (120, 120, 124)))
        pieces.append(stroke([(0, radius, z - 0.3), (0, radius, z + 0.3)], 0.012, (120, 120, 124)))
    for line in ([rear, crank, head, seat, crank], [rear, seat], [front, head, (0, 1.03, 0.33)]):
        pieces.append(stroke(line, 0.05, colour))
    pieces.append(ball(crank, 0.09, (70, 70, 74)))
    pieces.append(stroke([(0, 0.93, -0.36), (0, 0.95, -0.1)], 0.08, (24, 22, 22)))
    pieces.append(stroke([(-0.28, 1.05, 0.25), (-0.1, 1.03, 0.34), (0.1, 1.03, 0.34),
                          (0.28, 1.05, 0.25)], 0.045, (36, 36, 38)))  # fmt: skip
    if rng.random() < 0.4:
        bag = box(0.16, 0.95, 1.2, 0.38, 0.66, (150, 108, 62))  # a basket
        pieces += bag
    return Model([pieces], 1.78, 0.6, 1.07)


def motor(rng: np.random.Generator) -> Model:
    """Return a motorcycle or scooter: fat wheels, a solid body, a fork, lamps and mirrors."""
    colour = paint(rng)
    radius, base = 0.31, 0.68
    pieces = [hoop(z, radius - 0.07, 0.16, TYRE) for z in (-base, base)]
    pieces += [ball((0, radius, z), 0.12, (168, 168, 172)) for z in (-base, base)]
    pieces += box(0.16, 0.25, 0.62, -0.35, 0.34, (62, 62, 66))  # the engine
    pieces += [stroke([(0.16, 0.3, -0.1), (0.18, 0.34, -0.95)], 0.1, (176, 176, 180))]
    pieces += [stroke([(0, radius, base), (0, 0.98, 0.4)], 0.1, (120, 120, 124))]
    pieces += loft([(-0.95, 0.72, 0.12), (-0.9, 0.92, 0.14), (-0.2, 0.74, 0.17),
                    (-0.3, 0.56, 0.17)], colour)  # fmt: skip
    pieces += loft([(-0.2, 0.56, 0.19), (-0.15, 0.86, 0.2), (0.25, 0.98, 0.2), (0.5, 0.8, 0.18),
                    (0.42, 0.5, 0.18)], colour)  # fmt: skip
    pieces += [stroke([(0, 0.93, -0.8), (0, 0.82, -0.2)], 0.14, (24, 22, 22))]
    pieces += loft([(0.36, 0.92, 0.2), (0.32, 1.22, 0.15), (0.4, 1.22, 0.15), (0.56, 0.92, 0.2)],
                   dim(GLASS, 1.7))  # fmt: skip
    pieces += [stroke([(-0.38, 1.06, 0.2), (0, 1.02, 0.32), (0.38, 1.06, 0.2)], 0.06, TYRE)]
    for x in (-0.36, 0.36):
        pieces += [stroke([(x, 1.06, 0.24), (x, 1.2, 0.28)], 0.03, TYRE)]
        pieces += [ball((x, 1.23, 0.28), 0.07, (52, 54, 58))]
    lamp = Piece(_disc(0.84, 0.58, 0.13), WHITE, normal=(0, 0, 1.0), glow="head")
    tail = Piece(_disc(0.84, -0.96, 0.1), RED, normal=(0, 0, -1.0), glow="tail")
    plate = np.array([(-0.1, 0.5, -0.97), (0.1, 0.5, -0.97), (0.1, 0.66, -0.97),
                      (-0.1, 0.66, -0.97)])  # fmt: skip
    pieces += [lamp, tail, Piece(plate, (232, 232, 222), normal=(0, 0, -1.0))]
    return Model([pieces], 2.05, 0.8, 1.28)


def _disc(y: float, z: float, radius: float) -> np.ndarray:
    """Return a disc that faces along z as (n, 3) points."""
    return np.stack([radius * np.cos(_ROUND), y + radius * np.sin(_ROUND),
                     np.full(len(_ROUND), z)], axis=1)  # fmt: skip


def rider(rng: np.random.Generator, *, on: str) -> Model:
    """Return somebody seated on a "bike" (leaning, pedalling) or a "motor" (full helmet)."""
    shirt, trousers, skin = paint(rng), dim(paint(rng), 0.6), _pick(rng, _SKINS)
    bicycle = on == "bike"
    hip = (0.98, -0.24) if bicycle else (0.92, -0.38)  # (y, z)
    neck = (hip[0] + 0.52, hip[1] + (0.3 if bicycle else 0.2))
    grip = (1.06, 0.24) if bicycle else (1.07, 0.2)
    turn = rng.uniform(0, 2 * math.pi)
    pieces = []
    for side in (-1, 1):
        if bicycle:
            foot = (side * 0.1, 0.3 + 0.16 * math.sin(turn + side * math.pi / 2),
                    -0.06 + 0.16 * math.cos(turn + side * math.pi / 2))  # fmt: skip
            knee = (side * 0.12, 0.5 * (hip[0] + foot[1]) + 0.06, 0.24)
        else:
            foot, knee = (side * 0.24, 0.28, -0.1), (side * 0.26, 0.68, 0.16)
        start = (side * 0.1, hip[0] - 0.02, hip[1])
        pieces.append(stroke([start, knee, foot], 0.15, trousers))
        pieces.append(stroke([foot, (foot[0], foot[1] - 0.01, foot[2] + 0.14)], 0.09, TYRE))
    torso = loft([(hip[1] - 0.12, hip[0] - 0.05, 0.17), (neck[1] - 0.13, neck[0] - 0.02, 0.22),
                  (neck[1] + 0.1, neck[0] - 0.02, 0.22), (hip[1] + 0.12, hip[0] - 0.05, 0.17)],
                 shirt)  # fmt: skip
    pieces += torso
    for side in (-1, 1):
        shoulder = (side * 0.22, neck[0] - 0.07, neck[1])
        elbow = (side * 0.33, 0.5 * (neck[0] + grip[0]) - 0.08, 0.5 * (neck[1] + grip[1]) - 0.03)
        pieces.append(stroke([shoulder, elbow, (side * 0.3, *grip)], 0.1, dim(shirt, 0.8)))
    pieces += _helmet(neck[0] + 0.16, neck[1] + 0.06, skin, paint(rng), full=not bicycle)
    return Model([pieces], 0.9, 0.7, neck[0] + 0.32)


def _helmet(y: float, z: float, skin: Colour, colour: Colour, *, full: bool) -> list[Piece]:
    """Return a cyclist's head under a shell, or a closed motorcycle helmet with a visor."""
    neck = stroke([(0, y - 0.2, z - 0.04), (0, y, z)], 0.11, dim(skin, 0.8))
    if full:
        visor = np.array(
            [
                (-0.11, y - 0.06, z + 0.14),
                (0.11, y - 0.06, z + 0.14),
                (0.11, y + 0.06, z + 0.14),
                (-0.11, y + 0.06, z + 0.14),
            ]
        )
        return [neck, ball((0, y, z), 0.165, colour),
                Piece(visor, (20, 22, 26), normal=(0, 0, 1.0))]  # fmt: skip
    return [neck, ball((0, y - 0.02, z), 0.12, skin),
            ball((0, y + 0.05, z - 0.02), 0.13, colour)]  # fmt: skip
