"""All readers of files that somebody else may have written."""

from . import annotations, scores, weights

TARGETS = {**annotations.TARGETS, **weights.TARGETS, **scores.TARGETS}
