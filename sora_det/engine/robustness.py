"""Score a detector on corrupted images: the robust-detection benchmark on any benchmark.

Cells (one domain, corruption and severity each) are kept as soon as they are done, so that a run
that was stopped goes on where it was.
"""

from __future__ import annotations

import copy
import inspect
import logging
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from detectron2.config import instantiate
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.registry import locate
from omegaconf import DictConfig
from torch import nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..adapt import trainable
from ..data import Benchmark
from ..data.corruptions import COMMON, SEVERITIES, check_names, check_severities
from ..data.corruptions.frost import drawn_textures, read_textures
from ..evaluation import RunInfo
from ..evaluation.robustness import Cell, RobustnessTable
from ..evaluation.run import evaluate
from ..evaluation.scoring import Extras
from ..evaluation.share import on_main_process
from .hooks import console_loggers
from .robustness_cells import Done, config_sha256, settings, weights_sha256, write_cell
from .robustness_plan import Name, Plan, data_sha256, finished, forecast, in_order, join
from .train import build, describe, load_for_evaluation

logger = logging.getLogger(__name__)


def measure_robustness(
    cfg: DictConfig,
    *,
    name: str = "",
    domains: Literal["source", "all"] | Sequence[str] = "source",
    corruptions: Sequence[str] = COMMON,
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    frost_textures: str | Path | None = None,
    output: str | Path | None = None,
    redo: bool = False,
) -> RobustnessTable:
    """Score the detector of `cfg` on clean and corrupted images of whole test splits.

    What is scored is what `engine.train.score` would score. All processes call this together and
    share the images of every cell.

    Args:
        cfg: of a training run; it is not changed. `dataloader.test` must be our `test_loader`, or
            take its argument `change`.
        name: of the config, for the results.
        domains: "source", "all", or names of domains.
        corruptions: names; the benchmark's fifteen by default.
        severities: from 1 to 5.
        seed: of the corruptions, from 0.
        frost_textures: folder with PNG or JPEG photographs of frost; drawn ones by default.
        output: folder for `robustness/`; `train.output_dir` by default.
        redo: replace cells that another model, data set or setting has left there.

    Returns:
        The scores, also written to `robustness/` as robustness.json and robustness.md.

    Raises:
        OSError, ValueError: unknown names, cells of something else without `redo`, or whatever
            scoring refuses.
        RuntimeError: on the other processes, when the first one failed.
    """
    _check(cfg, corruptions, severities, seed)
    textures = None if frost_textures is None else read_textures(frost_textures)
    cfg = copy.deepcopy(cfg)
    seed_all_rng(cfg.train.seed)  # an untrained detector is repeated by the seed of its run
    run = describe(cfg, name)
    benchmark, model = build(cfg)
    wanted = _domains(benchmark, domains)
    counts = trainable(model)
    run = replace(run, trainable=counts.trained, parameters=counts.total)
    run = replace(run, **load_for_evaluation(cfg, model))
    plan = Plan(
        benchmark=benchmark,
        domains=wanted,
        corruptions=in_order(corruptions),
        severities=tuple(sorted(set(severities))),
        used=settings(seed, textures),
        textures=textures,
        min_side=float(cfg.train.get("evaluation", {}).get("min_side", 0.0)),
        scored={"weights": weights_sha256(model), "config": config_sha256(cfg)},
        folder=Path(output or cfg.train.output_dir) / "robustness",
    )
    data = on_main_process(partial(data_sha256, plan))
    done = on_main_process(partial(finished, plan, data, redo=redo))
    _evaluate_cells(_Detector(cfg, model, run), plan, data, done)
    table = join(plan, done)
    if comm.is_main_process():
        path, _ = table.write(plan.folder)
        logger.info("results written to %s:\n%s", path, table.to_text())
    return table


@dataclass(frozen=True, eq=False)
class _Detector:
    """What is scored, and the config that its images are loaded by."""

    cfg: DictConfig
    model: nn.Module
    run: RunInfo

    @property
    def readers(self) -> int:
        workers = int(self.cfg.dataloader.test.get("num_workers", 0) or 0)
        return max(1, workers) * comm.get_world_size()


def _check(
    cfg: DictConfig, corruptions: Sequence[str], severities: Sequence[int], seed: int
) -> None:
    """Find what is wrong before a network is built."""
    check_names(corruptions)
    check_severities(severities)
    if not corruptions or not severities:
        raise ValueError("name at least one corruption and one severity")
    if seed < 0:
        raise ValueError(f"the seed of the corruptions must be a whole number from 0, got {seed}")
    target: Any = cfg.dataloader.test.get("_target_")
    function = locate(target) if isinstance(target, str) else target
    if function is None or "change" not in inspect.signature(function).parameters:
        raise ValueError(
            f"dataloader.test is {target}, which has no argument `change` to corrupt images with: "
            "use sora_det.data.test_loader"
        )


def _domains(benchmark: Benchmark, asked: str | Sequence[str]) -> tuple[str, ...]:
    every = tuple(domain.name for domain in benchmark.domains)
    if isinstance(asked, str):
        asked = {"all": every, "source": [benchmark.source.name]}.get(asked, [asked])
    unknown = sorted({*asked} - {*every})
    if unknown or not asked:
        raise ValueError(f"domains must be source, all or some of {every}, got {unknown or asked}")
    return tuple(name for name in every if name in asked)


def _evaluate_cells(
    detector: _Detector, plan: Plan, data: dict[str, str], done: dict[Name, Done]
) -> None:
    """Score clean images first, say how long the rest will take, and do it; fill `done`."""
    if "frost" in plan.corruptions and plan.textures is None:
        drawn_textures()  # here, for the loader's processes to inherit
    for cell in plan.cells:
        if not cell[1] and cell not in done:
            done[cell] = _evaluate_cell(detector, plan, data, cell)
    left = [cell for cell in plan.cells if cell not in done]
    main = comm.is_main_process()
    if main:
        logger.info(forecast(plan, done, readers=detector.readers))
    terminal = main and sys.stderr.isatty()
    with ExitStack() as shown:
        bar = shown.enter_context(
            tqdm(total=len(left), unit="cell", disable=not terminal, dynamic_ncols=True)
        )
        if terminal:  # what is logged goes above the bar
            shown.enter_context(logging_redirect_tqdm(console_loggers()))
        for cell in left:
            done[cell] = _evaluate_cell(detector, plan, data, cell)
            bar.update()


def _evaluate_cell(detector: _Detector, plan: Plan, data: dict[str, str], cell: Name) -> Done:
    """Score one cell and keep it."""
    domain, corruption, severity = cell
    if comm.is_main_process():
        logger.info("%s:", f"{corruption}, severity {severity}" if corruption else "clean")
    node: Any = {**detector.cfg.dataloader.test, "change": plan.corruption(cell)}

    def loader(dataset: str) -> Iterable[list[dict[str, Any]]]:
        batches = instantiate({**node, "dataset_name": dataset})
        return cast(Iterable[list[dict[str, Any]]], batches)

    start = time.perf_counter()
    table = evaluate(
        detector.model,
        plan.benchmark,
        loader=loader,
        domains=[domain],
        run=detector.run,
        min_side=plan.min_side,
        extras=Extras(replicates=0),
    )
    score = table.scores[0]
    found = Cell(
        domain=domain,
        corruption=corruption,
        severity=severity,
        images=score.images,
        boxes=score.boxes,
        coco_ap=score.coco_ap,
        ap50=score.ap50,
        seconds=round(time.perf_counter() - start, 3),
    )

    def keep() -> Done:
        done = Done(found, table.protocol, table.run)
        write_cell(plan.file(cell), done, plan.key(cell, data))
        return done

    return on_main_process(keep)
