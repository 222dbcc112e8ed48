"""`audit`: look at every file of a benchmark, with several threads, and say all that is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from ..benchmark import Benchmark, Domain
from ..register import domain_folder
from .cache import Facts, cache_file, read_cache, stamp, write_cache
from .coco import coco_split
from .duplicates import DISTANCE, across, repeated
from .entries import Split
from .examine import Picture, Sheet, examine_picture, examine_sheet
from .judge import judge
from .report import KINDS, Audit, Finding, SplitCount
from .voc import voc_split

Examine = Callable[[Path], Facts]

_CHUNK = 16  # files per task of a thread


def audit(
    benchmark: Benchmark,
    *,
    distance: int = DISTANCE,
    workers: int | None = None,
    cache: bool = True,
    progress: bool = True,
) -> Audit:
    """Look at all splits, annotations and images of a benchmark.

    Args:
        benchmark: whose data to look at; nothing of them is changed.
        distance: bits of 256 in which the looks of an image to test on and of one to train on may
            differ for them to be called near-duplicates; 0 to 256.
        workers: threads; None for one per processor.
        cache: keep what is found out about files in `cache_file(benchmark.root)`, and look anew at
            those alone whose time or size has changed.
        progress: show a progress bar if stderr is a terminal.

    Raises:
        ValueError: a number out of its range.
    """
    if not 0 <= distance <= 256 or (workers is not None and workers < 1):
        raise ValueError(
            f"distance must be in 0..256 and workers at least 1, got {distance} and {workers}"
        )
    splits = [split for domain in benchmark.domains for split in _splits(benchmark, domain)]
    jobs: dict[Path, Examine] = {}
    for entry in (entry for split in splits for entry in split.entries):
        jobs[entry.image] = examine_picture
        if entry.sheet is not None:
            jobs[entry.sheet] = examine_sheet
    facts, cached = find_facts(
        jobs, benchmark.root, workers=workers, cache=cache, show="" if progress else None
    )
    counts, findings = _judge(splits, facts, benchmark, distance)
    return Audit(
        benchmark=benchmark.name,
        root=str(benchmark.root),
        splits=tuple(counts),
        findings=tuple(findings),
        distance=distance,
        files=len(facts),
        cached=cached,
    )


def _splits(benchmark: Benchmark, domain: Domain) -> Iterator[Split]:
    """Read the splits of a domain."""
    for role in domain.splits:
        split = Split(f"{domain.name}/{role}", train=role == "train")
        yield split
        try:
            folder = domain_folder(benchmark, domain)
        except FileNotFoundError as error:
            split.note("missing-folder", "", str(error))
            continue
        if benchmark.format == "voc":
            voc_split(split, folder, domain.splits[role], benchmark.root)
        else:
            images = folder / domain.images.get(role, ".")
            coco_split(split, folder / domain.splits[role], images, benchmark.root)


def find_facts(
    jobs: Mapping[Path, Examine],
    root: Path,
    *,
    workers: int | None = None,
    cache: bool = True,
    show: str | None = None,
) -> tuple[dict[Path, Facts], int]:
    """Find the facts of all files that exist, and how many of them were known before.

    Args:
        jobs: files below `root`, and what to do with each.
        root: of the benchmark.
        workers: threads; None for one per processor.
        cache: as of `audit`.
        show: words before a progress bar, if stderr is a terminal; None for no bar.
    """
    bar = tqdm(
        total=len(jobs), desc=show or None, unit="file", disable=show is None or None, leave=False
    )
    with bar:
        return _facts(jobs, root, workers or _processors(), cache, bar.update)


def _facts(
    jobs: Mapping[Path, Examine],
    root: Path,
    workers: int,
    cache: bool,
    progress: Callable[[int], object],
) -> tuple[dict[Path, Facts], int]:
    stamps = {file: when for file in jobs if (when := stamp(file)) is not None}
    names = {file: file.relative_to(root).as_posix() for file in stamps}
    store = cache_file(root) if cache else None
    known = read_cache(store) if store else {}
    facts: dict[Path, Facts] = {}
    for file, when in stamps.items():
        before, earlier = known.get(names[file], (None, None))
        kind = Picture if jobs[file] is examine_picture else Sheet
        if before == when and isinstance(earlier, kind):
            facts[file] = earlier
    cached = len(facts)
    progress(cached + len(jobs) - len(stamps))
    left = [file for file in stamps if file not in facts]
    try:
        for file, found in _run(left, jobs, workers):
            facts[file] = found
            progress(1)
    finally:  # what is known stays known if somebody loses patience
        if store and len(facts) > cached:
            known |= {names[file]: (stamps[file], found) for file, found in facts.items()}
            write_cache(store, known)
    return facts, cached


def _run(
    files: list[Path], jobs: Mapping[Path, Examine], workers: int
) -> Iterator[tuple[Path, Facts]]:
    """Examine files by several threads: what decodes and hashes them lets others run."""

    def examine(chunk: list[Path]) -> list[tuple[Path, Facts]]:
        return [(file, jobs[file](file)) for file in chunk]

    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    with ThreadPoolExecutor(workers) as pool:
        try:
            for done in pool.map(examine, chunks):
                yield from done
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _judge(
    splits: list[Split], facts: Mapping[Path, Facts], benchmark: Benchmark, distance: int
) -> tuple[list[SplitCount], list[Finding]]:
    pictures = {file: found for file, found in facts.items() if isinstance(found, Picture)}
    sheets = {file: found for file, found in facts.items() if isinstance(found, Sheet)}
    counts, findings = [], []
    for split in splits:
        boxes = 0
        for entry in split.entries:
            sheet = None if entry.sheet is None else sheets.get(entry.sheet)
            picture = pictures.get(entry.image)
            boxes += judge(split, entry, picture, sheet, benchmark.category_ids)
        counts.append(SplitCount(split.name, len(split.entries), boxes))
        findings += [*split.findings, *repeated(split, pictures)]
    findings += across(splits, pictures, distance)
    return counts, sorted(findings, key=lambda one: list(KINDS).index(one.kind))


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
