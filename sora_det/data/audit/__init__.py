"""Everything that is wrong with the data of a benchmark, at once: `audit` gives an `Audit`."""

from .report import KINDS, Audit, Finding
from .run import audit

__all__ = ["KINDS", "Audit", "Finding", "audit"]
