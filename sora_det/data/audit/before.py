"""The images that a training is going to read, looked at before it begins."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog

from ..benchmark import Benchmark
from .examine import Picture, examine_picture
from .run import find_facts

logger = logging.getLogger(__name__)


def check_source(benchmark: Benchmark) -> str:
    """Say what is wrong with images of the source that would end a training, "" if nothing is.

    These are the images for validation and, where `on_bad_image` is "error", those to train on.
    The domains to be generalised to are left alone. What an audit has found out about a file, or
    an earlier training, is taken from its cache.

    Args:
        benchmark: registered already.
    """
    roles = ("val", "test") if benchmark.on_bad_image == "skip" else ("train", "val", "test")
    images = {
        Path(record["file_name"]): record
        for role in roles
        for record in DatasetCatalog.get(benchmark.dataset_name(benchmark.source.name, role))
    }
    facts, cached = find_facts(
        dict.fromkeys(images, examine_picture), benchmark.root, show="looking at images"
    )
    logger.info("looked at %d images, %d known from before", len(images), cached)
    faults = list(_faults(images, facts))
    if not faults:
        return ""
    skip = "benchmark.on_bad_image=skip trains without such images, and "
    return (
        f"{len(faults)} of {len(images)} images of the source cannot be used, the first: "
        f"{faults[0]}; {skip if 'train' in roles else ''}scripts/check_benchmark.py finds them all"
    )


def _faults(images: Mapping[Path, Mapping[str, Any]], facts: Mapping[Path, Any]) -> Iterator[str]:
    for file, record in images.items():
        found, size = facts.get(file), (record["width"], record["height"])
        name = f"image {record['image_id']!r}: {file}"
        if not isinstance(found, Picture):
            yield f"{name}: it is missing"
        elif found.problem:
            yield f"{name}: {found.problem}"
        elif size not in (found.layout.stored, found.layout.shown):
            stored, stated = ("x".join(map(str, one)) for one in (found.layout.stored, size))
            yield f"{name}: has {stored} pixels, but its annotation says {stated}"
