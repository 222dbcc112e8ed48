"""What training has done to the backbones of a study's runs: how features and weights moved."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import StatisticsError, correlation, fmean

from .layout import markdown, markdown_table
from .robustness import read_document
from .strict_json import decode

FORMAT = "sora_det.study_explained"
VERSION = 1
SHARES = ("minor", "principal", "chance")


@dataclass(frozen=True)
class DomainDrift:
    """Similarity of the trained backbone's features to the pretrained one's, on one domain.

    Attributes:
        domain: its name.
        cka: linear CKA (Kornblith et al. 2019) per block, 0 to 1, of the features as the next
            block reads them; None where features do not vary.
    """

    domain: str
    cka: tuple[float | None, ...]


@dataclass(frozen=True)
class BlockMovement:
    """How far the matrices that train of one block have moved from their pretrained values W.

    Attributes:
        norm: Frobenius norm of all W together, 0 if none trains.
        change: likewise, of W_now - W.
        minor: share of |W_now - W|^2 in the span of each W's weakest singular vectors, on the left
            or on the right, as many as an adapter has; None if nothing has moved.
        principal: likewise, of the strongest.
        chance: likewise, of a change that prefers no direction.
    """

    norm: float
    change: float
    minor: float | None
    principal: float | None
    chance: float | None

    @property
    def relative(self) -> float:
        return self.change / self.norm if self.norm else 0.0


@dataclass(frozen=True)
class Explained:
    """One final run of a study.

    Attributes:
        method, seed: which run.
        trained: SHA-256 of config, data and weights of its training.
        images: of every domain, at most.
        drifts: one per domain, the source first.
        moved: one per block, from 0.
    """

    method: str
    seed: int
    trained: str
    images: int
    drifts: tuple[DomainDrift, ...]
    moved: tuple[BlockMovement, ...]

    def similarity(self, *, targets: bool) -> tuple[float | None, ...]:
        """Return the similarity per block, of the source or as the mean over the targets."""
        lines = [d.cka for d in (self.drifts[1:] if targets else self.drifts[:1])]
        return tuple(mean(values) for values in zip(*lines, strict=True))

    @property
    def relative(self) -> float:
        """|W_now - W| / |W| over all matrices that train."""
        norm = math.hypot(*(one.norm for one in self.moved))
        return math.hypot(*(one.change for one in self.moved)) / norm if norm else 0.0

    def share(self, name: str) -> float | None:
        """Return `minor`, `principal` or `chance` of the change of all blocks."""
        return weighted((one.change**2, getattr(one, name)) for one in self.moved)


def weighted(pairs: Iterable[tuple[float, float | None]]) -> float | None:
    """Return the mean of values that are known, each with its weight; None without any weight."""
    known = [(weight, value) for weight, value in pairs if value is not None]
    total = sum(weight for weight, _ in known)
    return sum(weight * value for weight, value in known) / total if total else None


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of those that are known, None if there is none."""
    return weighted((1.0, value) for value in values)


def to_json(found: Sequence[Explained]) -> str:
    document = {"format": FORMAT, "version": VERSION, "runs": [asdict(one) for one in found]}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> tuple[Explained, ...]:
    """Read what `to_json` gave.

    Raises:
        ValueError: anything else.
    """
    document = read_document(text, FORMAT, VERSION)
    found: tuple[Explained, ...] = decode(tuple[Explained, ...], document.get("runs"), "runs")
    return found


def explained_text(
    found: Sequence[Explained], scores: Mapping[tuple[str, int | None], float]
) -> str:
    """Return a Markdown table, a row per method with the means over its runs, and what it shows.

    Args:
        found: the runs.
        scores: mean AP50 of the targets, by method and seed.
    """
    head = ["method", "runs", "similarity, source", "similarity, targets", "weights moved"]
    head += ["in weakest directions", "in strongest", "by chance"]
    rows = []
    for method in dict.fromkeys(one.method for one in found):
        runs = [one for one in found if one.method == method]
        last = [mean(run.similarity(targets=t)[-1] for run in runs) for t in (False, True)]
        shares = [mean(run.share(name) for run in runs) for name in SHARES]
        cells = [*map(_three, last), _share(fmean(run.relative for run in runs))]
        rows.append([method, str(len(runs)), *cells, *map(_share, shares)])
    images = " and ".join(sorted({str(one.images) for one in found}))
    notes = [
        f"Similarity is linear CKA to the pretrained features after the last block, on {images} "
        "images of every domain; 1 means nothing forgotten. Weights moved: |W_now - W| / |W| over "
        "all matrices that train, and the share of that change in the span of W's weakest or "
        "strongest singular vectors, as many as an adapter has. Means over seeds."
    ]
    pairs = [
        (kept, scores[key])
        for one in found
        if (key := (one.method, one.seed)) in scores
        and (kept := one.similarity(targets=True)[-1]) is not None
    ]
    rank = rank_correlation(pairs)
    if rank is not None:
        notes.append(
            f"Over these {len(pairs)} runs, the rank correlation of that similarity on target "
            f"images with the mean AP50 of the targets is {rank:+.2f}."
        )
    return "\n\n".join([markdown_table(head, rows), *map(markdown, notes)]) + "\n"


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Spearman's rank correlation, None for fewer than three pairs or equal values."""
    if len(pairs) < 3:
        return None
    try:
        return correlation(*(_ranks(values) for values in zip(*pairs, strict=True)))
    except StatisticsError:  # values that are all the same
        return None


def _ranks(values: Sequence[float]) -> list[float]:
    """Return ranks from 0; equal values share the mean of theirs."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"
