"""Compare the backbone of every final run with the one that it started from."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ...adapt.movement import Movement, Overlap
from ...adapt.select import block_index
from ...evaluation.explained import BlockMovement, DomainDrift, Explained, weighted
from ..analysis import analyze_forgetting, analyze_spectrum
from ..config import load_config
from .carry import Kept
from .plan import Run
from .result import Result

logger = logging.getLogger(__name__)
LAST = "model_final.pth"
IMAGES = 20  # per domain: thousands of patch tokens


def explain(
    kept: Kept, known: Iterable[Explained] = (), *, max_images: int = IMAGES, make: bool = True
) -> Iterator[Explained]:
    """Explain the final runs of a study, one by one.

    Args:
        kept: its results, read already (`Kept.left`).
        known: from earlier calls, of whatever study; what still holds is not made again.
        max_images: per domain.
        make: what is not known; else the others are left out.

    Yields:
        One of every final run that is known or whose checkpoint is here, by method and seed.
    """
    old = {(one.trained, one.images): one for one in known}
    missing = []
    for run, result in _finals(kept):
        one = old.get((result.key.digest, max_images))
        if one is None and not make:
            continue
        if one is None and not (kept.configs.folder(run) / LAST).is_file():
            missing.append(run)
            continue
        if one is None:
            one = _explained(run, result, kept.configs.write(run), max_images)
        yield replace(one, method=run.method)
    if missing:
        logger.warning(
            "%d final runs have left no %s below %s, such as %s: they were made elsewhere",
            len(missing),
            LAST,
            kept.configs.work,
            missing[0],
        )


def by_block(moved: Sequence[Movement], *, depth: int) -> tuple[BlockMovement, ...]:
    """Sum the movements of matrices up over the blocks 0 to `depth` - 1."""
    return tuple(_block([m for m in moved if block_index(m.name) == i]) for i in range(depth))


def _finals(kept: Kept) -> list[tuple[Run, Result]]:
    finals = [(run, r) for run, r in kept.found.items() if run.phase == "final" and not r.diverged]
    order = {method.name: place for place, method in enumerate(kept.study.methods)}
    return sorted(finals, key=lambda pair: (order[pair[0].method], pair[0].seed))


def _explained(run: Run, result: Result, config: Path, max_images: int) -> Explained:
    logger.info("%s", run)
    cfg = load_config(config)
    forgetting = analyze_forgetting(cfg, name=config.stem, max_images=max_images)
    movements = analyze_spectrum(cfg, name=config.stem).movements
    return Explained(
        method=run.method,
        seed=run.seed,
        trained=result.key.digest,
        images=max_images,
        drifts=tuple(DomainDrift(d.domain, _rounded(d.cka)) for d in forgetting.drifts),
        moved=by_block(movements, depth=len(forgetting.drifts[0].cka)),
    )


def _block(moved: Sequence[Movement]) -> BlockMovement:
    return BlockMovement(
        norm=math.hypot(*(one.norm for one in moved)),
        change=math.hypot(*(one.change for one in moved)),
        minor=_share(moved, "minor"),
        principal=_share(moved, "principal"),
        chance=_share(moved, "chance"),
    )


def _share(moved: Sequence[Movement], name: str) -> float | None:
    """Return the share of all energy of the change that touches a subspace on either side."""
    parts: list[tuple[float, Overlap | None]] = [(m.change**2, getattr(m, name)) for m in moved]
    return weighted((energy, None if part is None else part.either) for energy, part in parts)


def _rounded(values: Iterable[float | None]) -> tuple[float | None, ...]:
    return tuple(None if value is None else round(value, 5) for value in values)
