"""A model and a benchmark to a table: run every domain, gather the detections, score them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from detectron2.structures import BoxMode
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ..data.benchmark import Benchmark
from ..data.register import records
from .ap import Array, GroundTruth, average_precision
from .coco import MAX_DETECTIONS, coco_scores
from .collect import Collector, Found, merge
from .convention import DIVERSE_WEATHER
from .protocol import Protocol, RunInfo, SplitInfo
from .table import ClassScore, DomainScore, DomainTable

logger = logging.getLogger(__name__)

IOU = 0.5
Loader = Callable[[str], Iterable[list[dict[str, Any]]]]
Result = TypeVar("Result")


def evaluate(
    model: nn.Module,
    benchmark: Benchmark,
    *,
    loader: Loader,
    domains: Literal["all", "source"] | Sequence[str] = "all",
    split: Literal["test", "val"] = "test",
    output_dir: str | Path | None = None,
    run: RunInfo | None = None,
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
        output_dir: where the first process writes `results.json` and `results.md`; None for not
            at all.
        run: what is evaluated; versions are filled in. Without it, the start of the backbone is
            read from its attributes `random_init` and `weights_source`.
        progress: show a progress bar if stderr is a terminal.

    Raises:
        ValueError: unknown domains, an image that is unknown, missing or seen twice, scores or
            boxes that are not finite, or boxes at another size than the original image's.
        RuntimeError: on the other processes, when the first one failed.
    """
    if isinstance(model, DistributedDataParallel):
        model = model.module  # its forward may talk to other processes, whose shards differ
    names = _chosen(benchmark, domains, split)
    truths: dict[str, _Truth] = {}
    splits = []
    for name in names:  # before any inference, so that a broken domain costs no hours
        splits.append(_on_main(partial(_prepare, benchmark, name, split, truths)))
    scores = []
    for name in names:
        start = time.perf_counter()
        found = _infer(model, loader(benchmark.dataset_name(name, split)), name, progress)
        parts = comm.gather(found, dst=0)
        scores.append(_on_main(partial(_score, benchmark, name, truths, parts)))
        _log(scores[-1], time.perf_counter() - start)
    table = DomainTable(
        benchmark=benchmark.name,
        protocol=_protocol(benchmark, model, tuple(splits)),
        scores=tuple(scores),
        run=_complete(run, model),
    )
    if output_dir is not None and comm.is_main_process():
        path, _ = table.write(output_dir)
        logger.info("results written to %s", path)
    return table


@dataclass(frozen=True, eq=False)
class _Truth:
    """Ground truth of one domain."""

    ids: Mapping[str, int]  # image_id -> index
    size: Array  # (images, 2) width, height
    boxes: GroundTruth


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
    benchmark: Benchmark, domain: str, truths: Mapping[str, _Truth], parts: Sequence[Found]
) -> DomainScore:
    """Score the gathered detections of one domain."""
    truth = truths[domain]
    detections = merge(domain, truth.ids, parts)
    finite = np.isfinite(detections.score) & np.isfinite(detections.box).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{int((~finite).sum())} of {len(detections)} detections on domain {domain!r} have "
            "scores or boxes that are not finite; has the training diverged?"
        )
    # A model sees padding as image; what lies there is cut off, as Detectron2 does at the border.
    limit = np.tile(truth.size[detections.image], 2).astype(np.float32)  # (N, 4)
    detections = replace(detections, box=np.clip(detections.box, 0.0, limit))
    classes = benchmark.classes
    voc = average_precision(
        detections, truth.boxes, num_classes=len(classes), iou=IOU, convention=DIVERSE_WEATHER
    )
    coco = coco_scores(detections, truth.boxes, num_images=len(truth.ids), num_classes=len(classes))
    return DomainScore(
        domain=domain,
        role="source" if domain == benchmark.source.name else "target",
        images=len(truth.ids),
        ignored=int(truth.boxes.ignore.sum()),
        classes=tuple(
            ClassScore(name, c.ground_truth, _percent(c.ap))
            for name, c in zip(classes, voc.classes, strict=True)
        ),
        ap50=_percent(voc.mean),
        coco_ap=coco.ap,
        coco_ap50=coco.ap50,
        coco_ap75=coco.ap75,
        coco_small=coco.small,
        coco_medium=coco.medium,
        coco_large=coco.large,
    )


def _read_truth(benchmark: Benchmark, domain: str, split: str) -> _Truth:
    """Boxes of one domain from its annotations; crowd means ignored."""
    images = records(benchmark, domain, split)
    if not images:
        raise ValueError(f"domain {domain!r} has no images in its split {split!r}")
    ids = {str(image["image_id"]): i for i, image in enumerate(images)}
    if len(ids) < len(images):
        raise ValueError(f"domain {domain!r} lists {len(images) - len(ids)} images twice")
    rows = [(i, box) for i, image in enumerate(images) for box in image["annotations"]]
    boxes = [BoxMode.convert(b["bbox"], b["bbox_mode"], BoxMode.XYXY_ABS) for _, b in rows]
    truth = GroundTruth(
        image=np.array([i for i, _ in rows], dtype=np.int64),
        label=np.array([b["category_id"] for _, b in rows], dtype=np.int64),
        box=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        ignore=np.array([bool(b.get("iscrowd", 0)) for _, b in rows], dtype=bool),
    )
    size = np.array([(image["width"], image["height"]) for image in images], dtype=np.float64)
    return _Truth(ids, size, truth)


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


def _prepare(benchmark: Benchmark, domain: str, split: str, truths: dict[str, _Truth]) -> SplitInfo:
    """Read one domain into `truths` and describe it."""
    truth = truths[domain] = _read_truth(benchmark, domain, split)
    file = _split_file(benchmark, domain, split)
    ignored = int(truth.boxes.ignore.sum())
    return SplitInfo(
        domain=domain,
        dataset=benchmark.dataset_name(domain, split),
        file=file.name if file else "",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest() if file else "",
        images=len(truth.ids),
        boxes=len(truth.boxes) - ignored,
        ignored=ignored,
    )


def _split_file(benchmark: Benchmark, domain: str, split: str) -> Path | None:
    found = benchmark.domain(domain)
    name = found.splits[found.part(split)]
    below = f"ImageSets/Main/{name}.txt" if benchmark.format == "voc" else name
    files = [benchmark.root / folder / below for folder in found.folders]
    return next((file for file in files if file.is_file()), None)


def _protocol(benchmark: Benchmark, model: nn.Module, splits: tuple[SplitInfo, ...]) -> Protocol:
    rule = DIVERSE_WEATHER
    threshold, limit = _limits(model)
    return Protocol(
        classes=tuple(benchmark.classes),
        iou=IOU,
        strict=rule.strict,
        interpolation=rule.interpolation,
        pixel="inclusive" if rule.legacy_pixel else "continuous",
        difficult="ignored",
        clipped=True,
        absent_classes=rule.absent,
        max_detections=limit,
        score_threshold=threshold,
        coco_max_detections=MAX_DETECTIONS,
        splits=splits,
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
    )


def _log(score: DomainScore, seconds: float) -> None:
    shown = "none" if score.ap50 is None else f"{score.ap50:.1f}"
    if comm.is_main_process():
        logger.info("%s: %d images, AP50 %s, %.0f s", score.domain, score.images, shown, seconds)


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else fraction * 100.0


def _on_main(action: Callable[[], Result]) -> Result:
    """Run on the first process; every process gets the result, or an error if it failed."""
    if comm.get_world_size() == 1:
        return action()
    result, failure, error = None, "", None
    if comm.is_main_process():
        try:
            result = action()
        except Exception as caught:  # whatever it is, the others wait and must hear of it
            error, failure = caught, f"{type(caught).__name__}: {caught}"
    shared, failure = comm.all_gather((result, failure))[0]
    if error is not None:
        raise error
    if failure:
        raise RuntimeError(f"the first process failed with {failure}")
    return cast(Result, shared)
