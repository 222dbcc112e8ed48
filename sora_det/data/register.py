"""Reading a benchmark's data, directly or by name through Detectron2's catalogues."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from .benchmark import Benchmark, Domain
from .coco_json import coco_records
from .order import is_held_out
from .records import Records
from .voc_index import voc_records


def records(benchmark: Benchmark, domain: str, role: str) -> Sequence[dict[str, Any]]:
    """Read one split: dictionaries in Detectron2's format, in the order of the split's file.

    Each holds `file_name`, `height` and `width` (pixels), `image_id` (unique in the domain),
    `domain` (its name) and `annotations`: `bbox` [x0, y0, x1, y1] in pixels, `bbox_mode`
    XYXY_ABS, `category_id` (position in `benchmark.classes`), `iscrowd` (1 for difficult objects
    and crowds, which are neither trained on nor counted). Where `on_bad_image` of the benchmark is
    "skip", what is to be trained on comes without images that are missing or whose annotation file
    is malformed.

    Raises:
        FileNotFoundError: if folder, split file or too many images are missing.
        ValueError: if domain or role are unknown, or a file is malformed; it is named.
    """
    found = benchmark.domain(domain)
    part = benchmark.part(domain, role)
    folder = domain_folder(benchmark, found)
    split = found.splits[part]
    given: dict[str, Any] = {
        "category_ids": benchmark.category_ids,
        "domain": domain,
        "lenient": benchmark.on_bad_image == "skip" and role == "train",
        "root": benchmark.root,
    }
    if benchmark.format == "voc":
        read: Sequence[dict[str, Any]] = voc_records(folder, split, cache=benchmark.cache, **given)
    else:
        read = coco_records(folder / split, folder / found.images.get(part, "."), **given)
    return _without_held_out(read, benchmark, role) if part == "train" else read


def _without_held_out(
    read: Sequence[dict[str, Any]], benchmark: Benchmark, role: str
) -> Sequence[dict[str, Any]]:
    """Return what is trained on, or for "val" what is held out, of the source's training images."""
    share = benchmark.held_out
    if not share:
        return read
    kept = [r for r in read if is_held_out(r["image_id"], share) == (role == "val")]
    if len(kept) in (0, len(read)):
        raise ValueError(
            f"held_out={share:g} takes {'all' if bool(kept) == (role == 'val') else 'none'} of the "
            f"{len(read)} training images of {benchmark.source.name!r}: choose another share"
        )
    return kept


def register(benchmark: Benchmark) -> None:
    """Enter every domain and role of `benchmark` into Detectron2's catalogues.

    The names are those of `Benchmark.dataset_name`. Data are read when first asked for, and kept.
    May be repeated: whatever was registered for a benchmark of this name is replaced.
    """
    for name in DatasetCatalog.list():
        if name in MetadataCatalog.list() and _owner(name) == benchmark.name:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
    for domain in benchmark.domains:
        for role in domain.roles:
            name = benchmark.dataset_name(domain.name, role)
            DatasetCatalog.register(name, _reader(benchmark, domain.name, role))
            MetadataCatalog.get(name).set(
                thing_classes=list(benchmark.classes),
                benchmark=benchmark.name,
                domain=domain.name,
                role=role,
            )


def _owner(name: str) -> str | None:
    return MetadataCatalog.get(name).get("benchmark")


def _reader(benchmark: Benchmark, domain: str, role: str) -> Callable[[], Sequence[dict[str, Any]]]:
    """Reads the files once; every call returns records that the caller may change."""

    @cache
    def packed() -> Records | bytes:
        found = records(benchmark, domain, role)
        return found if isinstance(found, Records) else pickle.dumps(found)

    def unpacked() -> Sequence[dict[str, Any]]:
        found = packed()
        return found if isinstance(found, Records) else pickle.loads(found)

    return unpacked


def domain_folder(benchmark: Benchmark, domain: Domain) -> Path:
    for name in domain.folders:
        if (benchmark.root / name).is_dir():
            return benchmark.root / name
    raise FileNotFoundError(
        f"domain {domain.name!r} of {benchmark.name!r}: no folder {' or '.join(domain.folders)} "
        f"below {benchmark.root}. The root comes from the command line, from the benchmark's file "
        "or, for a relative one, from a folder of that name below DETECTRON2_DATASETS"
    )
