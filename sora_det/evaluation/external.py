"""Detections in files, of whatever detector, to a table: no model is needed."""

from __future__ import annotations

import datetime
import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ..data.benchmark import Benchmark
from ..data.coco_json import category_names
from .prediction_images import Images
from .predictions import Classes, Source, parse_sources, read_predictions
from .protocol import RunInfo
from .saved import write_domain
from .scoring import Extras, make_table, score_domain, voc_protocol
from .table import DomainTable
from .truth import read_truth

logger = logging.getLogger(__name__)


def evaluate_files(
    benchmark: Benchmark,
    files: Sequence[str],
    *,
    name: str = "",
    first_category: int | None = None,
    ignore_unknown_images: bool = False,
    min_side: float = 0.0,
    extras: Extras | None = None,
    output_dir: str | Path | None = None,
) -> DomainTable:
    """Score files of detections on the test splits of a benchmark.

    Args:
        benchmark: the domains; their annotations are read.
        files: each a path, for all domains, or DOMAIN=path; then those domains alone are scored.
        name: of the detector, for the results.
        first_category: category id of the first class, where files have ids without names.
        ignore_unknown_images: count detections of unknown images in the results instead of
            refusing them.
        min_side, extras: as in `scoring.score_domain`.
        output_dir: where results.json, results.md and detections/<domain>.npz are written; None
            for not at all.

    Raises:
        OSError, ValueError: as `read_predictions` and `read_truth`.
    """
    every = [domain.name for domain in benchmark.domains]
    sources = parse_sources(files, every)
    named = {source.domain for source in sources}
    domains = [domain for domain in every if domain in named or "" in named]
    truths = {domain: read_truth(benchmark, domain) for domain in domains}
    predicted = read_predictions(
        sources,
        {d: Images(truth.ids, truth.files, truth.size) for d, truth in truths.items()},
        Classes(
            tuple(benchmark.classes),
            benchmark.category_ids,
            numbers=partial(_numbers, benchmark),
            first=first_category,
        ),
        ignore_unknown_images=ignore_unknown_images,
    )
    protocol = voc_protocol(
        benchmark.classes, [truth.split for truth in truths.values()], min_side=min_side
    )
    scored = []
    for domain in domains:
        data = truths.pop(domain).with_detections(predicted[domain].detections)
        if output_dir is not None:
            write_domain(data, output_dir)
        remarks = predicted.pop(domain).remarks
        scored.append(score_domain(data, min_side=min_side, extras=extras, remarks=remarks))
        logger.info("%s: %d images scored", domain, len(data.ids))
    run = RunInfo(
        method=name, checkpoint=_fingerprints(sources), date=datetime.date.today().isoformat()
    )
    table = make_table(benchmark.name, protocol, scored, run=run, extras=extras)
    if output_dir is not None:
        path, _ = table.write(output_dir)
        logger.info("results written to %s", path)
    return table


def _numbers(benchmark: Benchmark, domain: str) -> Mapping[int, str]:
    """Category ids and names of a domain's annotation file; VOC's have no ids."""
    if benchmark.format != "coco":
        return {}
    found = benchmark.domain(domain)
    split = found.splits[found.part("test")]
    files = (benchmark.root / folder / split for folder in found.folders)
    return category_names(next(file for file in files if file.is_file()))


def _fingerprints(sources: Sequence[Source]) -> str:
    """Name the files, with the beginning of their SHA-256."""
    names = []
    for source in sources:
        with source.file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        names.append(f"{source.file.name} (SHA-256 {digest[:12]})")
    return ", ".join(names)
