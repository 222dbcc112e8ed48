"""Singular triplets at either end of the spectrum, without the rest of the decomposition.

A block Krylov method (Golub and Underwood 1977; for the strongest triplets also Musco and Musco,
arXiv 1504.05477) in float64. The strongest directions of W are those that W'W enlarges most, the
weakest those that its inverse does; with W = QR, the inverse is two triangular solutions. A QR
factorisation is a small part of a full decomposition, and everything else works on thin matrices.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from .errors import AdaptationError
from .low_rank import check_weight

Solver = Literal["krylov", "exact", "randomized"]
End = Literal["minor", "principal"]

OVERSAMPLING = 8  # columns beyond the rank asked for
CHECK_EVERY = 2  # blocks
SETTLED = 1e-5  # sine of the angle between two successive answers; the later one is far closer
GPU_BATCH = 16  # matrices
LARGEST_BASIS = 0.6  # of the matrix's smaller side; beyond, a full decomposition is faster


class Triplets(NamedTuple):
    """`rank` singular triplets of each matrix of a batch, descending, in float64."""

    u: Tensor  # (..., out, rank)
    s: Tensor  # (..., rank)
    vh: Tensor  # (..., rank, in)


def triplets(
    weight: Tensor,
    rank: int,
    *,
    end: End,
    solver: Solver = "krylov",
    device: torch.device | str | None = None,
) -> Triplets:
    """Return the weakest or the strongest singular triplets of every matrix of a batch.

    Args:
        weight: (..., out, in), any floating type; computed in float64.
        rank: 1 to min(out, in).
        end: `minor` for the smallest singular values, `principal` for the largest.
        solver: `krylov` is exact to about 1e-8 (sine of the largest angle to the subspace that a
            float64 SVD finds) and falls back to `exact`, the SVD itself, where the matrix is small,
            of deficient rank, or has no gap to converge by. `randomized` is
            `torch.svd_lowrank`, which draws from torch's generator and is for `principal` only.
        device: where to compute; None is a CUDA device if there is one, else that of `weight`.
            The results come back to that of `weight`.

    Raises:
        AdaptationError: rank out of range, a weight that is not finite, an unknown solver, or
            `randomized` for `minor`.
    """
    check_solver(solver, end)
    check_weight(weight, rank)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else weight.device))
    place = torch.device("cpu") if place.type == "mps" else place  # which has no float64
    # A GPU takes many matrices at once; on a CPU one after the other is faster.
    pieces = weight.reshape(-1, *weight.shape[-2:]).split(GPU_BATCH if place.type == "cuda" else 1)
    found = [_FIND[solver](piece.to(place).double(), rank, end) for piece in pieces]
    u, s, vh = (torch.cat(column).to(weight.device) for column in zip(*found, strict=True))
    batch = weight.shape[:-2]
    return Triplets(*(t.reshape(*batch, *t.shape[1:]) for t in (u, s, vh)))


def check_solver(solver: Solver, end: End) -> None:
    """Raise AdaptationError for a solver that there is not, or that cannot find this end."""
    if solver not in get_args(Solver):
        raise AdaptationError(f"solver must be one of {get_args(Solver)}, got {solver!r}")
    if solver == "randomized" and end == "minor":
        raise AdaptationError(
            "a randomized SVD finds the principal components, never the minor ones: use "
            "solver='krylov' or 'exact'"
        )


def _exact(weight: Tensor, rank: int, end: End) -> Triplets:
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)  # s descends
    part = slice(-rank, None) if end == "minor" else slice(rank)
    return Triplets(u[..., part], s[..., part], vh[..., part, :])


def _randomized(weight: Tensor, rank: int, end: End) -> Triplets:
    # Without spare columns the last directions asked for would be found badly.
    width = min(rank + OVERSAMPLING, *weight.shape[-2:])
    u, s, v = torch.svd_lowrank(weight, q=width, niter=16)
    return Triplets(u[..., :rank], s[..., :rank], v.mT[..., :rank, :])


def _krylov(weight: Tensor, rank: int, end: End) -> Triplets:
    if weight.shape[-2] < weight.shape[-1]:
        u, s, vh = _krylov(weight.mT, rank, end)
        return Triplets(vh.mT, s, u.mT)
    side = weight.shape[-1]
    if (rank + OVERSAMPLING) * 2 * CHECK_EVERY > LARGEST_BASIS * side:
        return _exact(weight, rank, end)
    steps = _inverse(weight) if end == "minor" else _direct(weight)
    v = None if steps is None else _subspace(steps, side, rank, weight)
    return _exact(weight, rank, end) if v is None else _rotate(weight, v)


class _Steps(NamedTuple):
    """An operator as two halves, of which the second is the first one's adjoint."""

    there: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


def _direct(weight: Tensor) -> _Steps:
    return _Steps(lambda x: weight @ x, lambda y: weight.mT @ y)


def _inverse(weight: Tensor) -> _Steps | None:
    """Return W'W to the power -1 as R'^-1 and R^-1, or None if the rank is deficient."""
    r = torch.linalg.qr(weight, mode="r").R
    size = r.diagonal(dim1=-2, dim2=-1).abs()
    floor = size.amax(-1) * (weight.shape[-2] * torch.finfo(r.dtype).eps)
    if bool((size.amin(-1) <= floor).any()):
        return None
    return _Steps(
        lambda x: torch.linalg.solve_triangular(r.mT, x, upper=False),
        lambda y: torch.linalg.solve_triangular(r, y, upper=True),
    )


def _subspace(steps: _Steps, side: int, rank: int, like: Tensor) -> Tensor | None:
    """Return a basis (batch, side, rank) of what is enlarged most, None if it does not settle."""
    # A generator of its own: the same answer in every process, and no draw from the global one.
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(side, rank + OVERSAMPLING, generator=generator, dtype=like.dtype)
    x = torch.linalg.qr(start).Q.to(like.device).expand(len(like), -1, -1)
    basis, images, last = [x], [steps.there(x)], None
    while (len(basis) + 1) * x.shape[-1] <= LARGEST_BASIS * side:
        x = _orthogonalised(steps.back(images[-1]), basis)
        basis.append(x)
        images.append(steps.there(x))
        if len(basis) % CHECK_EVERY:
            continue
        v = _ritz(basis, images, rank)
        if last is not None and float(_sine(v, last).max()) < SETTLED:
            return v
        last = v
    return None


def _orthogonalised(x: Tensor, basis: list[Tensor]) -> Tensor:
    whole = torch.cat(basis, -1)
    for _ in range(2):  # once leaves what rounding left
        x = x - whole @ (whole.mT @ x)
        x = torch.linalg.qr(x).Q
    return x


def _ritz(basis: list[Tensor], images: list[Tensor], rank: int) -> Tensor:
    """Return the `rank` combinations of the basis that the first half step enlarges most."""
    image = torch.cat(images, -1)
    _, vectors = torch.linalg.eigh(image.mT @ image)  # ascending
    v: Tensor = torch.cat(basis, -1) @ vectors[..., -rank:]
    return v


def _sine(a: Tensor, b: Tensor) -> Tensor:
    """Return the sine of the largest angle between two subspaces, orthonormal bases in columns."""
    off: Tensor = torch.linalg.svdvals(a - b @ (b.mT @ a))
    return off[..., 0]


def _rotate(weight: Tensor, v: Tensor) -> Triplets:
    """Turn a basis of a right singular subspace (..., in, rank) into the triplets themselves."""
    u, s, vh = torch.linalg.svd(weight @ v, full_matrices=False)
    return Triplets(u, s, vh @ v.mT)


_FIND: dict[str, Callable[[Tensor, int, End], Triplets]] = {
    "krylov": _krylov,
    "exact": _exact,
    "randomized": _randomized,
}
