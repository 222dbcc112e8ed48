"""`fit` and `score`: build what a lazy config describes, train it, score its domains."""

import copy
import datetime
import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from detectron2.config import instantiate
from detectron2.engine import HookBase, TrainerBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter, TensorboardXWriter
from fvcore.common.param_scheduler import ParamScheduler
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from ..adapt import save_adapter, trainable
from ..adapt.record import recall
from ..data import Benchmark, register
from ..data.audit import check_source
from ..data.images import BadImageError
from ..evaluation import DomainTable, RunInfo
from ..evaluation.run import evaluate
from ..evaluation.scoring import Extras
from .checkpoint import (
    FINAL,
    Checkpoints,
    Origin,
    load_foreign,
    load_model,
    model_state,
    read_checkpoint,
)
from .hooks import LogRates, LogSkipped, ProgressLine, ShowMetrics, Validate
from .launch import distributed
from .metrics import WriteMetrics
from .save import SaveCheckpoints
from .trainer import Trainer

logger = logging.getLogger(__name__)


def fit(cfg: DictConfig, *, name: str = "", resume: bool = False) -> DomainTable:
    """Train the run that `cfg` describes, then score every domain.

    With `train.evaluation.split` "val" the source's validation images alone are scored, so that a
    setting can be chosen without a look at any test image.

    Args:
        cfg: with `benchmark`, `adaptation`, `model`, `dataloader`, `optimizer`, `lr_multiplier`,
            `hooks` and `train`, as the files in `configs/common` define them; it is not changed.
        name: of the config, for the results.
        resume: go on from the last checkpoint in `train.output_dir`, if there is one.

    Returns:
        The scores of every domain, also written to `train.output_dir` as results.json and
        results.md. What the adaptation has trained, apart from detector and frozen weights, is
        written there as adapter.safetensors.
    """
    cfg = copy.deepcopy(cfg)
    run = describe(cfg, name)
    benchmark, model = build(cfg)
    run = replace(run, **train_detector(cfg, model, benchmark, resume=resume))
    if comm.is_main_process():
        _write_adapter(model, Path(cfg.train.output_dir))
    split = cfg.train.evaluation.get("split", "test")
    domains: Literal["all", "source"] = "source" if split == "val" else "all"
    return _evaluate(cfg, model, benchmark, domains=domains, split=split, run=run)


def score(
    cfg: DictConfig, *, name: str = "", domains: Literal["all", "source"] = "all"
) -> DomainTable:
    """Score `train.init_checkpoint`, or else the last checkpoint in `train.output_dir`.

    Without either, the detector is scored as it is built, and the results say so. How the backbone
    started is taken from the checkpoint. Arguments and results are those of `fit`.
    """
    cfg = copy.deepcopy(cfg)
    run = describe(cfg, name)
    benchmark, model = build(cfg)
    run = replace(run, **load_for_evaluation(cfg, model))
    return _evaluate(cfg, model, benchmark, domains=domains, split="test", run=run)


def describe(cfg: DictConfig, name: str) -> RunInfo:
    """Return what results say of a run: of its config, called `name`, and the day."""
    return RunInfo(
        config=name,
        config_sha256=hashlib.sha256(OmegaConf.to_yaml(cfg).encode()).hexdigest(),
        method=str(instantiate(cfg.adaptation)),
        seed=cfg.train.seed,
        date=datetime.date.today().isoformat(),
    )


def build(cfg: DictConfig) -> tuple[Benchmark, nn.Module]:
    """Build the benchmark, registered, and the detector, adapted and on its device."""
    benchmark: Benchmark = instantiate(cfg.benchmark)
    register(benchmark)
    model = instantiate(cfg.model).to(pick_device(cfg.train.device))
    logger.info("model: %s", trainable(model))
    return benchmark, model


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is this process's GPU, or the CPU without one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def origin_of(model: nn.Module) -> Origin:
    """Return what the backbone of a detector started from."""
    backbone = model.backbone
    return Origin(
        weights=getattr(backbone, "weights_source", ""),
        random_init=getattr(backbone, "random_init", False),
    )


def train_detector(
    cfg: DictConfig,
    model: nn.Module,
    benchmark: Benchmark,
    *,
    resume: bool = False,
    first_hooks: Sequence[HookBase] = (),
) -> dict[str, Any]:
    """Train `model`, which `build` made of `cfg`, and return what the results say of it.

    Args:
        first_hooks: are called before all others.
    """
    train = cfg.train
    _make_folder(Path(train.output_dir))
    store = Checkpoints(train.output_dir, keep=train.checkpoints_kept)
    skipped = None
    if benchmark.on_bad_image == "skip":
        skipped = LogSkipped(Path(train.output_dir) / "skipped_images.jsonl")
    trainer = _trainer(cfg, model, skipped)
    origin = origin_of(model)
    done = _start(cfg, model, trainer, store, origin, resume=resume)
    # What cannot be made again from the pretrained weights has to be kept: all of it, if there are
    # none or others have been loaded over them.
    whole = origin.random_init or bool(train.init_checkpoint)

    def state(trainer: TrainerBase) -> dict[str, Any]:
        return {
            **model_state(model, whole=whole),
            "trainer": trainer.state_dict(),
            "origin": asdict(origin),
        }

    def validate() -> dict[str, float]:
        source = _evaluate(cfg, model, benchmark, domains="source", split="val").scores[0]
        return {"validation/AP50": source.ap50 or 0.0, "validation/AP": source.coco_ap or 0.0}

    main = comm.is_main_process()
    trainer.register_hooks(
        [
            *first_hooks,
            hooks.IterationTimer(),
            *(instantiate(hook) for hook in cfg.hooks.values()),
            LogRates(),
            skipped,
            hooks.LRScheduler(scheduler=_multiplier(cfg)),
            Validate(train.eval_period, validate),
            ShowMetrics(_writers(train, done), train.log_period) if main else None,
            WriteMetrics(Path(train.output_dir) / "metrics.json", train.log_period)
            if main
            else None,
            ProgressLine() if main else None,
            SaveCheckpoints(store, state, train.checkpoint_period),  # last, see there
        ]
    )
    if done < train.max_iter:
        if train.check_images:
            _check_images(benchmark)
        trainer.train(done, train.max_iter)
    return {"checkpoint": FINAL, "iteration": max(done, train.max_iter), **asdict(origin)}


def _check_images(benchmark: Benchmark) -> None:
    """Stop now for the images that would stop training later; the first process looks at them."""
    fault = comm.all_gather(check_source(benchmark) if comm.is_main_process() else "")[0]
    if fault:
        raise BadImageError(fault)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot make {folder}: {error.strerror}") from error


def _trainer(cfg: DictConfig, model: nn.Module, skipped: LogSkipped | None) -> Trainer:
    train = cfg.train

    def batches(start: int) -> Iterable[list[dict[str, Any]]]:
        cfg.dataloader.train.start = start
        loader: Iterable[list[dict[str, Any]]] = instantiate(cfg.dataloader.train)
        return loader if skipped is None else skipped.watch(loader)

    return Trainer(
        distributed(model, dict(train.ddp)),
        batches,
        _optimizer(cfg, model),
        precision=train.precision,
        clip_norm=train.clip_norm,
        accumulate=train.accumulate,
        seed=train.seed,
        max_bad_steps=train.max_bad_steps,
        folder=train.output_dir,
    )


def _writers(train: DictConfig, start: int) -> list[EventWriter]:
    """Return what shows the metrics, on the terminal and in TensorBoard."""
    return [
        CommonMetricPrinter(train.max_iter),
        TensorboardXWriter(train.output_dir, purge_step=start),  # of iterations to be repeated
    ]


def _start(
    cfg: DictConfig,
    model: nn.Module,
    trainer: Trainer,
    store: Checkpoints,
    origin: Origin,
    *,
    resume: bool,
) -> int:
    """Load what the training starts from and return the number of iterations done."""
    newest = store.read_newest() if resume else None
    _agree_on(newest[0] if newest else None)
    if newest:
        file, state = newest
        load_model(model, state, name=file.name)
        if "trainer" not in state:
            raise ValueError(f"{file} holds weights alone: pass it as train.init_checkpoint")
        trainer.load_state_dict(state["trainer"])
        trainer.load_local_state(state.get("processes", []))
        vars(origin).update(state["origin"])
        logger.info("resumed from %s", file)
        return trainer.iter + 1
    if not resume and store.files():
        raise ValueError(
            f"{store.folder} holds the checkpoints of a run: pass --resume to go on with it, or "
            "choose another train.output_dir"
        )
    if cfg.train.init_checkpoint:
        _load_initial(cfg, model)
    return 0


def _agree_on(file: Path | None) -> None:
    """Make sure that all processes see the same checkpoints."""
    name = file.name if file is not None else ""
    seen = comm.all_gather(name)
    if len(set(seen)) > 1:
        raise ValueError(
            f"the processes see different checkpoints in train.output_dir ({seen}): it must be a "
            "folder that all machines share"
        )


def _load_initial(cfg: DictConfig, model: nn.Module) -> dict[str, Any]:
    """Load `train.init_checkpoint` and return what it holds."""
    file = str(cfg.train.init_checkpoint)
    if cfg.train.allow_pickle and file.endswith(".pkl"):
        load_foreign(model, file)
        return {}
    state = read_checkpoint(file)
    load_model(model, state, name=Path(file).name)
    return state


def _write_adapter(model: nn.Module, folder: Path) -> None:
    for module in model.modules():
        record = recall(module)
        if record is not None and record.method not in ("Full", "Frozen"):  # all of it, or nothing
            file = folder / "adapter.safetensors"
            save_adapter(module, file)
            logger.info("%s: %.1f MB", file, file.stat().st_size / 1e6)


def _optimizer(cfg: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    cfg.optimizer.params.model = model
    optimizer: torch.optim.Optimizer = instantiate(cfg.optimizer)
    for group in optimizer.param_groups:  # a checkpoint holds plain types only
        for name, value in group.items():
            group[name] = tuple(value) if isinstance(value, ListConfig) else value
    return optimizer


def _multiplier(cfg: DictConfig) -> ParamScheduler:
    multiplier = instantiate(cfg.lr_multiplier)
    if not isinstance(multiplier, ParamScheduler):
        raise ValueError(f"lr_multiplier must be a ParamScheduler, got {type(multiplier).__name__}")
    return multiplier


def load_for_evaluation(cfg: DictConfig, model: nn.Module) -> dict[str, Any]:
    """Load the weights to score and return what the results say of them."""
    origin = asdict(origin_of(model))
    file = str(cfg.train.init_checkpoint)
    if file:
        if Checkpoints(cfg.train.output_dir).files():
            logger.warning("scoring train.init_checkpoint, %s, not the run's own", file)
        state = _load_initial(cfg, model)
    else:
        newest = Checkpoints(cfg.train.output_dir).read_newest()
        if newest is None:
            logger.warning("no checkpoint: the detector is scored untrained")
            if comm.get_world_size() > 1:  # every process has drawn other random numbers
                for value in model.state_dict().values():
                    dist.broadcast(value, src=0)
            return {"iteration": 0, **origin}
        path, state = newest
        file = str(path)
        load_model(model, state, name=path.name)
    iteration = state["trainer"]["iteration"] + 1 if "trainer" in state else None
    return {
        "checkpoint": Path(file).name,
        "iteration": iteration,
        **origin,
        **state.get("origin", {}),
    }


def _evaluate(
    cfg: DictConfig,
    model: nn.Module,
    benchmark: Benchmark,
    *,
    domains: Literal["all", "source"],
    split: Literal["test", "val"],
    run: RunInfo | None = None,
) -> DomainTable:
    """Score `model`; the table of a described run is logged and written to the output folder."""

    def loader(dataset_name: str) -> Iterable[list[dict[str, Any]]]:
        cfg.dataloader.test.dataset_name = dataset_name
        return instantiate(cfg.dataloader.test)

    if run is not None:
        counts = trainable(model)
        run = replace(run, trainable=counts.trained, parameters=counts.total)
    options = dict(cfg.train.evaluation)
    min_side = options.pop("min_side")
    options.pop("split", None)
    table = evaluate(
        model,
        benchmark,
        loader=loader,
        domains=domains,
        split=split,
        output_dir=None if run is None else cfg.train.output_dir,
        run=run,
        min_side=min_side,
        extras=Extras(replicates=0) if run is None else Extras(**options),
    )
    if run is not None:
        logger.info("results of %s:\n%s", cfg.train.output_dir, table.to_text())
    return table
