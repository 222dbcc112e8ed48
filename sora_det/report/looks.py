"""What runs are called and how they are drawn, the same on the whole page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..evaluation.compare import Comparison, shortened
from .charts import style
from .runs import Run

DASHES = 4  # in the style sheet, dash0 to dash3


@dataclass(frozen=True)
class Look:
    """One run.

    Attributes:
        method: that it is a run of.
        title: its name and its method's.
        style: classes of the style sheet: the colour is the method's, dashes tell its runs apart.
    """

    method: str
    title: str
    style: str


def run_looks(runs: Sequence[Run], comparison: Comparison) -> Mapping[str, Look]:
    """Return the look of every run by its name."""
    names = shortened([method.name for method in comparison.methods])
    found = {}
    for run in runs:
        for place, method in enumerate(comparison.methods):
            for number, table in enumerate(method.tables):
                if table is run.table:
                    title = f"{run.name} ({names[place]})"
                    look = f"{style(place)} dash{number % DASHES}"
                    found[run.name] = Look(names[place], title, look)
    return found
