"""Where numbers lie on an axis, and which of them are written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A range of numbers, linear or logarithmic.

    Attributes:
        label: what the numbers are.
        low, high: ends, low < high; both positive if `log`.
        ticks: numbers written beside the axis, within the ends.
        log: equal distances are equal ratios.
    """

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Return 0 for `low`, 1 for `high`; values beyond them lie at the ends."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return min(max((value - low) / (high - low), 0.0), 1.0)


def linear(label: str, values: Iterable[float], *, zero: bool = True, count: int = 5) -> Axis:
    """Return an axis with round ends around all finite values, 0 included if `zero`."""
    known = [v for v in values if math.isfinite(v)] + ([0.0] if zero else [])
    low, high = min(known, default=0.0), max(known, default=1.0)
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        high = low + (abs(low) or 1.0)
    step = _step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(step * k, 12 - round(math.log10(step))) for k in range(first, last + 1))
    return Axis(label, ticks[0], ticks[-1], ticks)


def logarithmic(label: str, values: Iterable[float]) -> Axis:
    """Return an axis between powers of ten around all positive values."""
    known = [v for v in values if math.isfinite(v) and v > 0] or [1.0]
    first = math.floor(math.log10(min(known)) + 1e-9)
    last = max(math.ceil(math.log10(max(known)) - 1e-9), first + 1)
    every = max(1, math.ceil((last - first) / 6))
    ticks = tuple(10.0**k for k in range(first, last + 1, every))
    return Axis(label, 10.0**first, 10.0**last, ticks, log=True)


def _step(rough: float) -> float:
    """Return the next larger of 1, 2, 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= rough * (1 - 1e-9))
