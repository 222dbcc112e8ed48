"""What results look like to a reader: plots."""

from .panels import save
from .plots import (
    feature_change,
    movement,
    scores_without,
    similarity,
    spectra,
)

__all__ = ["feature_change", "movement", "save", "scores_without", "similarity", "spectra"]
