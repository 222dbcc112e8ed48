"""The cells of a robustness run, which of them are done, and how long the rest will take."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..data import Benchmark, records
from ..data.corruptions import COMMON, EXTRA, Corruption
from ..data.images import read_image
from ..evaluation.robustness import RobustnessTable, Settings, expected
from ..evaluation.truth import read_truth
from .robustness_cells import Done, Key, cell_file, cell_key, read_cell

logger = logging.getLogger(__name__)

Name = tuple[str, str, int]  # domain, corruption ("" for clean), severity (0 for clean)


@dataclass(frozen=True, eq=False)
class Plan:
    """All cells of a run.

    Attributes:
        benchmark: with the domains.
        domains, corruptions, severities: what there is a cell for each of, in their order.
        used: how images are corrupted.
        textures: of frost, None for drawn ones.
        min_side: of ground truth that counts, in pixels.
        scored: what must be equal for a cell to be the same, beside the data.
        folder: where the cells are kept.
    """

    benchmark: Benchmark
    domains: tuple[str, ...]
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    used: Settings
    textures: tuple[np.ndarray, ...] | None
    min_side: float
    scored: Key
    folder: Path

    @property
    def cells(self) -> list[Name]:
        return expected(self.domains, self.corruptions, self.severities)

    def file(self, cell: Name) -> Path:
        return cell_file(self.folder, *cell)

    def corruption(self, cell: Name) -> Corruption | None:
        _, name, severity = cell
        if not name:
            return None
        return Corruption(name, severity, seed=self.used.seed, textures=self.textures)

    def key(self, cell: Name, data: Mapping[str, str]) -> Key:
        """Return what decides the scores of a cell; `data` has a checksum for every domain."""
        scored = {
            **self.scored,
            "classes": list(self.benchmark.classes),
            "min_side": self.min_side,
            "data": data[cell[0]],
        }
        return cell_key(scored, self.used, cell[1])


def data_sha256(plan: Plan) -> dict[str, str]:
    """Checksums of the images' names, their sizes and boxes, by domain."""
    splits = (read_truth(plan.benchmark, domain).split for domain in plan.domains)
    return {split.domain: split.annotations for split in splits}


def finished(plan: Plan, data: Mapping[str, str], *, redo: bool) -> dict[Name, Done]:
    """Read the cells that are done, of exactly this model, data and settings.

    Raises:
        ValueError: there are cells of something else, and no `redo`; or a file is no cell.
    """
    done, others, different = {}, [], Counter[str]()
    for cell in plan.cells:
        found, differing = read_cell(plan.file(cell), plan.key(cell, data))
        if found is not None:
            done[cell] = found
        elif differing:
            others.append(plan.file(cell))
            different.update(differing)
    if others and not redo:
        raise ValueError(
            f"{len(others)} cells in {plan.folder / 'cells'} are of something else, such as "
            f"{others[0].relative_to(plan.folder)} (different: {', '.join(sorted(different))}). "
            "Give another --output, or --redo to replace them"
        )
    if others:
        logger.info("%d cells of something else will be replaced", len(others))
    return done


def forecast(plan: Plan, done: Mapping[Name, Done], *, readers: int) -> str:
    """Say how long the cells left will take: as long as clean images, and time to corrupt them.

    Args:
        done: with all the clean cells.
        readers: processes that read and corrupt images, over all machines.
    """
    clean = {domain: done[domain, "", 0].cell for domain in plan.domains}
    left = [cell for cell in plan.cells if cell not in done]
    before = len(done) - len(clean)
    seconds, images = sum(c.seconds for c in clean.values()), sum(c.images for c in clean.values())
    text = f"clean images ({images}) took {seconds:.1f} s; {before} cells were done before, "
    if not left:
        return f"{text}none is left"
    ahead = 0.0
    for domain, cell in clean.items():
        names = [name for where, name, _ in left if where == domain]
        costs = _costs(plan, domain, set(names))
        ahead += sum(cell.seconds + cell.images * costs[name] / readers for name in names)
    shown = f"{ahead / 60:.0f} min" if ahead >= 90 else f"{ahead:.0f} s"
    return f"{text}{len(left)} are left, about {shown}"


def _costs(plan: Plan, domain: str, names: Iterable[str]) -> dict[str, float]:
    """Time each corruption on the domain's first image; seconds."""
    record = records(plan.benchmark, domain, "test")[0]
    image = read_image(record["file_name"], (record["width"], record["height"]))
    costs = {}
    for name in names:
        corruption = Corruption(name, max(plan.severities), textures=plan.textures)
        start = time.perf_counter()
        corruption(image, record)
        costs[name] = time.perf_counter() - start
    return costs


def join(plan: Plan, done: Mapping[Name, Done]) -> RobustnessTable:
    """Make the table of all cells.

    Raises:
        ValueError: a cell has been scored by another protocol than the first.
    """
    clean = {domain: done[domain, "", 0] for domain in plan.domains}
    first = clean[plan.domains[0]]
    for cell in plan.cells:
        own, same = done[cell].protocol, clean[cell[0]].protocol
        rules = replace(own, splits=first.protocol.splits)
        if problems := own.differences(same) + rules.differences(first.protocol):
            raise ValueError(
                f"{plan.file(cell)} was scored by another protocol ({'; '.join(problems)}): "
                f"delete {plan.folder / 'cells'} and start again"
            )
    return RobustnessTable(
        benchmark=plan.benchmark.name,
        protocol=replace(
            first.protocol, splits=tuple(one.protocol.splits[0] for one in clean.values())
        ),
        settings=plan.used,
        common=tuple(name for name in plan.corruptions if name in COMMON),
        extra=tuple(name for name in plan.corruptions if name in EXTRA),
        severities=plan.severities,
        cells=tuple(done[cell].cell for cell in plan.cells),
        run=first.run,
    )


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """Each corruption once, in the benchmark's order."""
    return tuple(name for name in (*COMMON, *EXTRA) if name in names)
