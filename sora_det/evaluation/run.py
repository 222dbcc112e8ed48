"""A model and a benchmark to a table: run every domain, gather the detections, score them."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ..data.benchmark import Benchmark
from .collect import Collector, Found, merge
from .protocol import Protocol, RunInfo, SplitInfo
from .saved import write_domain
from .scores import DomainScore, Remark
from .scoring import Extras, ScoredDomain, make_table, score_domain, voc_protocol
from .share import on_main_process
from .table import DomainTable
from .truth import Truth, read_truth

logger = logging.getLogger(__name__)

Loader = Callable[[str], Iterable[list[dict[str, Any]]]]


def evaluate(
    model: nn.Module,
    benchmark: Benchmark,
    *,
    loader: Loader,
    domains: Literal["all", "source"] | Sequence[str] = "all",
    split: Literal["test", "val"] = "test",
    output_dir: str | Path | None = None,
    run: RunInfo | None = None,
    min_side: float = 0.0,
    extras: Extras | None = None,
    progress: bool = True,
) -> DomainTable:
    """Score a detector on the domains of a benchmark: VOC AP50 and COCO AP.

    Every image of a domain must come out of the loader exactly once over all processes, as with
    Detectron2's test loader. Detections are gathered on the first process, which scores them; all
    processes return the same table and must call this function together.

    Args:
        model: a Detectron2 detector; DDP wrappers are taken off. Its training flags are the same
            afterwards.
        benchmark: the domains; their annotations are read here, independently of the loader.
        loader: maps a registered dataset name to batches of Detectron2 dictionaries.
        domains: "all", "source", or names of domains.
        split: "test", or "val", which only the source has.
        output_dir: where the first process writes `results.json`, `results.md` and, as soon as a
            domain is done, `detections/<domain>.npz`; None for not at all.
        run: what is evaluated; versions are filled in. Without it, the start of the backbone is
            read from its attributes `random_init` and `weights_source`.
        min_side: leave out ground truth with a side below so many pixels; the table says so.
        extras: what to compute beside average precision; intervals unless said otherwise.
        progress: show a progress bar if stderr is a terminal.

    Raises:
        ValueError: unknown domains, an image that is unknown, missing or seen twice, scores or
            boxes that are not finite, or boxes at another size than the original image's.
        RuntimeError: on the other processes, when the first one failed.
    """
    if isinstance(model, DistributedDataParallel):
        model = model.module  # its forward may talk to other processes, whose shards differ
    names = _chosen(benchmark, domains, split)
    truths: dict[str, Truth] = {}
    splits = []
    for name in names:  # before any inference, so that a broken domain costs no hours
        splits.append(on_main_process(partial(_prepare, benchmark, name, split, truths)))
    protocol = _protocol(benchmark, model, splits, min_side)
    score = partial(_score, truths, min_side, extras, output_dir)
    scored = []
    for name in names:
        start = time.perf_counter()
        found = _infer(model, loader(benchmark.dataset_name(name, split)), name, progress)
        parts = comm.gather(found, dst=0)
        scored.append(on_main_process(partial(score, name, parts)))
        _log(scored[-1].score, time.perf_counter() - start)
    table = make_table(benchmark.name, protocol, scored, run=_complete(run, model), extras=extras)
    if output_dir is not None and comm.is_main_process():
        path, _ = table.write(output_dir)
        logger.info("results written to %s", path)
    return table


def _infer(
    model: nn.Module, batches: Iterable[list[dict[str, Any]]], domain: str, progress: bool
) -> Found:
    """Run the model over this process's share of a domain, in eval mode and without gradients."""
    collector = Collector(domain)
    total = len(batches) if isinstance(batches, Sized) else None
    shown = progress and comm.is_main_process() and sys.stderr.isatty()
    # Not inference_mode: whatever a model caches under it could never be trained with again.
    with _eval_mode(model), torch.no_grad():
        for batch in tqdm(batches, total=total, desc=domain, disable=not shown, leave=False):
            for image, output in zip(batch, model(batch), strict=True):
                collector.add(image, output)
    return collector.found()


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Set eval mode, then give every module its own flag back."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


def _score(
    truths: dict[str, Truth],
    min_side: float,
    extras: Extras | None,
    output_dir: str | Path | None,
    domain: str,
    parts: Sequence[Found],
) -> ScoredDomain:
    """Keep and score the gathered detections of one domain."""
    truth = truths.pop(domain)
    detections = merge(domain, {name: i for i, name in enumerate(truth.ids)}, parts)
    finite = np.isfinite(detections.score) & np.isfinite(detections.box).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{int((~finite).sum())} of {len(detections)} detections on domain {domain!r} have "
            "scores or boxes that are not finite; has the training diverged?"
        )
    strange = detections.score[(detections.score < 0) | (detections.score > 1)]
    if len(strange):
        raise ValueError(
            f"{len(strange)} of {len(detections)} detections on domain {domain!r} have a score "
            f"that is not between 0 and 1: {strange[0]:g} for one"
        )
    # A model sees padding as image; what lies there is cut off, as Detectron2 does at the border.
    limit = np.tile(truth.size[detections.image], 2).astype(np.float32)  # (N, 4)
    box = np.clip(detections.box, 0.0, limit)
    empty = int((box[:, 2:] <= box[:, :2]).any(axis=1).sum())
    remarks = [Remark("boxes have no area within their image and count as wrong", empty)]
    data = truth.with_detections(replace(detections, box=box))
    if output_dir is not None:
        write_domain(data, output_dir)
    return score_domain(data, min_side=min_side, extras=extras, remarks=remarks if empty else ())


def _chosen(benchmark: Benchmark, domains: str | Sequence[str], split: str) -> list[str]:
    """Names of the domains to evaluate, in the benchmark's order."""
    source = benchmark.source.name
    every = [domain.name for domain in benchmark.domains]
    wanted = {"all": every, "source": [source]}.get(domains) if isinstance(domains, str) else None
    if wanted is None:
        wanted = [domains] if isinstance(domains, str) else list(domains)
    unknown = sorted(set(wanted) - set(every))
    if unknown or not wanted:
        raise ValueError(f"domains must be all, source or some of {every}, got {domains!r}")
    if split not in ("test", "val"):
        raise ValueError(f"split must be test or val, got {split!r}")
    if split == "val" and set(wanted) != {source}:
        raise ValueError(f"only the source {source!r} has a split val, got domains {domains!r}")
    return [name for name in every if name in wanted]


def _prepare(benchmark: Benchmark, domain: str, split: str, truths: dict[str, Truth]) -> SplitInfo:
    """Read one domain into `truths` and describe it."""
    truths[domain] = read_truth(benchmark, domain, split)
    return truths[domain].split


def _protocol(
    benchmark: Benchmark, model: nn.Module, splits: Sequence[SplitInfo], min_side: float
) -> Protocol:
    threshold, limit = _limits(model)
    return voc_protocol(
        benchmark.classes,
        splits,
        max_detections=limit,
        score_threshold=threshold,
        min_side=min_side,
    )


def _limits(model: nn.Module) -> tuple[float | None, int | None]:
    """Score threshold and detections per image of Detectron2's heads, None where unknown."""
    head = getattr(getattr(model, "roi_heads", None), "box_predictor", model)
    if isinstance(head, nn.ModuleList):  # a cascade: the last stage decides
        head = head[-1]
    threshold = getattr(head, "test_score_thresh", None)
    limit = getattr(head, "test_topk_per_image", getattr(head, "max_detections_per_image", None))
    return (
        None if threshold is None else float(threshold),
        None if limit is None else int(limit),
    )


def _complete(run: RunInfo | None, model: nn.Module) -> RunInfo:
    """Fill in the versions and, without a `run`, what the backbone says about its weights."""
    if run is None:
        backbone = getattr(model, "backbone", None)
        run = RunInfo(
            random_init=bool(getattr(backbone, "random_init", False)),
            weights=str(getattr(backbone, "weights_source", "")),
        )
    return replace(
        run,
        detectron2=run.detectron2 or importlib.metadata.version("detectron2"),
        torch=run.torch or torch.__version__,
        device=run.device or _device(model),
    )


def _device(model: nn.Module) -> str:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _log(score: DomainScore, seconds: float) -> None:
    shown = "none" if score.ap50 is None else f"{score.ap50:.1f}"
    if comm.is_main_process():
        logger.info("%s: %d images, AP50 %s, %.0f s", score.domain, score.images, shown, seconds)
