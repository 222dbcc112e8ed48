"""Everything that is wrong with the data of a benchmark, at once: `audit` gives an `Audit`."""

from .before import check_source
from .report import KINDS, Audit, Finding
from .run import audit

__all__ = ["KINDS", "Audit", "Finding", "audit", "check_source"]
