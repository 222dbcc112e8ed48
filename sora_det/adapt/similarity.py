"""How alike two networks' features are, and how far they have moved, gathered batch by batch.

Features are the rows of a matrix (sample, channel). Only sums over samples are kept, in float64,
so that any number of images fits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .errors import AdaptationError


class LinearCKA:
    """Centred kernel alignment with the linear kernel (Kornblith et al. 2019, arXiv 1905.00414).

    |Y'X|^2 / (|X'X| |Y'Y|) with Frobenius norms of centred features: 1 if the two are equal up to
    rotation, scale and shift, 0 if nothing in one can be read linearly from the other. With fewer
    samples than channels it is close to 1 whatever the features are.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._means: Tensor | None = None  # (p + q,) of both sides, one behind the other
        self._products = torch.empty(0)  # (p + q, p + q), centred
        self._split = 0  # p

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add features (sample, p) and (sample, q) of the same samples, in the same order.

        Raises:
            AdaptationError: not two matrices of as many rows, other widths than before, or values
                that are not finite.
        """
        _check(x, y)
        both = torch.cat([x.double(), y.double()], dim=1)
        new, mean = len(both), both.mean(0)
        centred = both - mean
        products = centred.mT @ centred
        if self._means is None:
            self.samples, self._means, self._products = new, mean, products
            self._split = x.shape[1]
            return
        if (x.shape[1], len(mean)) != (self._split, len(self._means)):
            before = (self._split, len(self._means) - self._split)
            raise AdaptationError(
                f"features must keep their widths {before}, got {(x.shape[1], y.shape[1])}"
            )
        # Chan, Golub and LeVeque 1983: the products of two batches about their common mean.
        total, shift = self.samples + new, mean - self._means
        self._products += products + torch.outer(shift, shift) * (self.samples * new / total)
        self._means += shift * (new / total)
        self.samples = total

    def value(self) -> float | None:
        """The similarity so far, 0 to 1; None if a side has not varied at all."""
        if self._means is None:
            return None
        sides = slice(self._split), slice(self._split, None)
        for side in sides:
            spread = float(self._products[side, side].trace())
            if not _varies(spread, float(self._means[side].square().sum()), self.samples):
                return None
        x, y = (self._products[side, side].norm() for side in sides)
        # Rounding may leave a little more than all.
        return min(float(self._products[sides].square().sum() / x / y), 1.0)


class FeatureChange:
    """Size of a change of features, relative to how much the samples differ from each other.

    |Y - X| / |X - mean of X| with Frobenius norms: 0 if nothing has changed; at 1, every sample has
    moved as far as samples usually are from their mean.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._moved = self._squares = 0.0
        self._sum: Tensor | None = None  # (channel,)

    def update(self, before: Tensor, after: Tensor) -> None:
        """Add features (sample, channel) of the same samples, in the same order.

        Raises:
            AdaptationError: not two matrices of one shape, or values that are not finite.
        """
        _check(before, after)
        if before.shape != after.shape:
            shapes = f"{tuple(before.shape)} and {tuple(after.shape)}"
            raise AdaptationError(f"a change needs features of one shape, got {shapes}")
        x, y = before.double(), after.double()
        self._sum = x.sum(0) if self._sum is None else self._sum + x.sum(0)
        self._squares += float(x.square().sum())
        self._moved += float((y - x).square().sum())
        self.samples += len(x)

    def value(self) -> float | None:
        """The relative change so far, from 0; None if the features before have not varied."""
        if self._sum is None:
            return None
        mean = float((self._sum / self.samples).square().sum())
        spread = self._squares - mean * self.samples
        return math.sqrt(self._moved / spread) if _varies(spread, mean, self.samples) else None


def _varies(spread: float, mean: float, samples: int) -> bool:
    """Tell a sum of squares about the mean from what rounding leaves where all is equal."""
    return spread > mean * samples * samples * torch.finfo(torch.float64).eps


def _check(x: Tensor, y: Tensor) -> None:
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y) or not len(x):
        raise AdaptationError(
            "features must be two matrices (sample, channel) of the same samples, got shapes "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise AdaptationError("features hold values that are not finite")
