"""Street furniture: things beside the road that are no objects to detect."""

from __future__ import annotations

import numpy as np

from .canvas import Model, Piece
from .people import ball, stroke
from .vehicles import box, dim, end, paint


def furniture(rng: np.random.Generator) -> Model:
    """Return a random thing that is no object: tree, post, sign, bin, bush, kiosk, bollard."""
    kind = rng.choice(["tree", "tree", "sign", "bin", "bush", "kiosk", "bollard", "signal"])
    if kind == "tree":
        return _tree(rng)
    if kind == "sign":
        return _sign(rng)
    if kind == "signal":
        return _signal(rng)
    colour = dim(paint(rng), 0.8)
    if kind == "bin":
        return Model(
            [
                box(0.3, 0.0, 1.0, -0.3, 0.3, colour)
                + box(0.34, 1.0, 1.1, -0.34, 0.34, dim(colour, 0.6))
            ],
            0.7,
            0.7,
            1.1,
        )
    if kind == "kiosk":
        body = box(0.9, 0.0, 2.3, -0.6, 0.6, colour) + box(1.1, 2.3, 2.5, -0.8, 0.8, (90, 90, 92))
        return Model([[*body, end(-0.7, 0.7, 1.0, 2.0, -0.61, (70, 84, 98))]], 1.6, 2.2, 2.5)
    if kind == "bush":
        leaf = dim((58, 100, 44), rng.uniform(0.7, 1.3))
        blobs = [ball((dx, 0.4, dz), rng.uniform(0.35, 0.5), dim(leaf, rng.uniform(0.85, 1.2)))
                 for dx, dz in rng.uniform(-0.4, 0.4, (4, 2)).tolist()]  # fmt: skip
        return Model([blobs], 1.4, 1.4, 0.9)
    posts = [stroke([(x, 0, 0), (x, 0.9, 0)], 0.16, (70, 70, 74)) for x in (-0.6, 0.6)]
    return Model([posts], 0.3, 1.4, 0.9)


def _tree(rng: np.random.Generator) -> Model:
    """Return a trunk under a cloud of leaves."""
    leaf = dim((66, 110, 48), rng.uniform(0.6, 1.2))
    if rng.random() < 0.2:
        leaf = dim((170, 120, 50), rng.uniform(0.7, 1.1))  # autumn
    crown = rng.uniform(3.2, 5.2)
    pieces = [stroke([(0, 0, 0), (rng.normal(0, 0.1), crown, 0)], 0.28, (88, 66, 48))]
    for dx, dy, dz in rng.uniform(-1, 1, (9, 3)).tolist():
        tone = rng.uniform(0.75, 1.2) * (1 + 0.15 * dy)
        pieces.append(ball((1.1 * dx, crown + 1.0 * dy, dz), rng.uniform(0.6, 1.1),
                           dim(leaf, tone)))  # fmt: skip
    return Model([pieces], 2.4, 3.0, crown + 1.8)


def _sign(rng: np.random.Generator) -> Model:
    """Return a traffic sign: a disc, a triangle or a board on a post."""
    high = rng.uniform(2.1, 2.7)
    pieces = [stroke([(0, 0, 0), (0, high, 0)], 0.08, (130, 132, 136))]
    style = int(rng.integers(3))
    if style == 0:
        pieces += [ball((0, high, -0.05), 0.36, (205, 30, 34)),
                   ball((0, high, -0.06), 0.26, (240, 240, 236))]  # fmt: skip
    elif style == 1:
        for scale, colour in ((1.0, (205, 30, 34)), (0.62, (240, 240, 236))):
            corners = np.array([(-0.42, -0.25, -0.05), (0.42, -0.25, -0.05), (0, 0.5, -0.05)])
            pieces.append(Piece(corners * [scale, scale, 1] + [0, high, 0], colour))
    else:
        pieces.append(end(-0.5, 0.5, high - 0.35, high + 0.35, -0.05, (30, 80, 160)))
    return Model([pieces], 0.2, 0.9, high + 0.4)


def _signal(rng: np.random.Generator) -> Model:
    """Return a traffic light that shows one of its three colours."""
    pieces = [stroke([(0, 0, 0), (0, 3.0, 0)], 0.12, (60, 62, 64))]
    pieces += box(0.2, 2.4, 3.4, -0.15, 0.15, (28, 28, 30))
    state = int(rng.integers(3))
    lamps = ((3.2, (235, 50, 40)), (2.9, (245, 180, 50)), (2.6, (70, 220, 130)))
    for index, (y, colour) in enumerate(lamps):
        lit = index == state
        tone = colour if lit else dim(colour, 0.25)
        pieces.append(ball((0, y, -0.17), 0.12, tone, "signal" if lit else ""))
    return Model([pieces], 0.4, 0.4, 3.4)


def lamp_post(side: int) -> Model:
    """Return a street lamp whose arm reaches over the road from the left (1) or right (-1)."""
    grey = (98, 100, 104)
    pieces = [stroke([(0, 0, 0), (0, 6.0, 0), (0.3 * side, 6.3, 0), (1.5 * side, 6.4, 0)],
                     0.15, grey)]  # fmt: skip
    pieces += [stroke([(1.2 * side, 6.38, 0), (1.8 * side, 6.4, 0)], 0.22, (205, 205, 198))]
    pieces += [ball((1.5 * side, 6.3, 0), 0.17, (255, 214, 150), "street")]
    return Model([pieces], 0.4, 0.4, 6.5)
