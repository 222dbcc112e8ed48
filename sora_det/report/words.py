"""Numbers and counts as a reader sees them."""

from __future__ import annotations

import math

NONE = "–"


def percent(value: float | None) -> str:
    """One decimal, a dash for a score that does not exist."""
    return NONE if value is None else f"{round(value, 1) + 0.0:.1f}"  # no "-0.0"


def fraction(value: float | None) -> str:
    """Two decimals, a dash for what does not exist."""
    return NONE if value is None else f"{value:.2f}"


def number(value: float) -> str:
    """At most three digits that count, without an exponent where that is short."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def count(amount: int, singular: str, plural: str = "") -> str:
    """Return "1 box", "2 boxes", "44,241 images"."""
    return f"{amount:,} {singular if amount == 1 else plural or singular + 's'}"


def listed(names: list[str], limit: int = 8) -> str:
    """Return "a, b and c", the rest of a long list counted."""
    if len(names) > limit:
        return f"{', '.join(names[:limit])} and {len(names) - limit} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
