"""The paper's analysis and that of forgetting, on what a lazy config describes."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

import torch
from detectron2.config import instantiate
from detectron2.utils.env import seed_all_rng
from omegaconf import DictConfig
from torch import Tensor, nn
from tqdm import tqdm

from ..adapt import Adapter, attach
from ..adapt.low_rank import LowRankLinear
from ..adapt.movement import Movement, movements, original_weight
from ..adapt.record import recall
from ..adapt.select import block_index, blocks
from ..adapt.similarity import FeatureChange, LinearCKA
from ..adapt.spectrum import exchanged, find_ends, reduced, spectra
from ..adapt.svd import End
from ..adapt.weights import linear_layers, part_names
from ..data import Benchmark
from ..evaluation import RunInfo
from ..evaluation.protocol import Protocol
from ..evaluation.run import evaluate
from ..evaluation.scoring import Extras
from .features import DomainImages, as_read, block_tokens, vit_of
from .findings import (
    DomainSample,
    Drift,
    ForgettingReport,
    Removal,
    ScoreWithout,
    SpectrumReport,
)
from .train import build, describe, load_for_evaluation

logger = logging.getLogger(__name__)

COUNTS = (1, 4, 16, 64)  # components removed, where no others are asked for
ENDS: tuple[End, ...] = ("principal", "minor")
ROUNDING = 1e-2  # of a weight's norm: a residual in bfloat16 is off by up to 0.4 %


def analyze_network(net: nn.Module, *, network: str, run: RunInfo | None = None) -> SpectrumReport:
    """Find the singular values of a network's blocks, or of all of it if it has none."""
    run = RunInfo() if run is None else run
    in_blocks = any(block_index(name) is not None for name in linear_layers(net))
    return SpectrumReport(
        run=replace(run, torch=torch.__version__),
        network=network,
        layers=_layers(net),
        rank=_rank(net),
        spectra=spectra(
            net,
            select=blocks(0) if in_blocks else None,
            progress=_bar("singular values", "layer"),
        ),
    )


def analyze_adapter(
    net: nn.Module, adapter: Adapter, *, network: str, run: RunInfo | None = None
) -> SpectrumReport:
    """Find singular values of an adapted network, and how far each of its matrices has moved.

    Args:
        net: with the original weights; it is not changed.
        adapter: what was trained.
        network: its name.
        run: what is known of the training.
    """
    adapted = attach(copy.deepcopy(net), adapter)
    report = analyze_network(adapted, network=network, run=run)
    moved = movements(
        adapted,
        original=net,
        select=set(report.layers).__contains__,
        progress=_bar("movement", "layer"),
    )
    return replace(report, movements=moved)


def analyze_spectrum(
    cfg: DictConfig,
    *,
    name: str = "",
    checkpoint: str = "",
    max_images: int = 0,
    counts: Sequence[int] = (),
    score: bool = False,
) -> SpectrumReport:
    """Analyse the weights of a backbone, and what its features and scores owe to which of them.

    Args:
        cfg: of a training run; it is not changed. Without a `model`, `backbone` is looked at alone.
        name: of the config, for the report.
        checkpoint: file with the trained detector; else the one in `train.output_dir`, if any.
        max_images: per domain, for the change of features; 0 leaves it out.
        counts: how many components to remove of every matrix; by default those of `COUNTS` that
            every matrix has.
        score: also score the detector on the whole test split of every domain, as often as there
            are counts and ends.

    Raises:
        ValueError: scores without a checkpoint, a count out of range, or a backbone without blocks
            where features are asked for.
    """
    if counts and not (max_images or score):
        raise ValueError("counts are of components to remove: ask for images or scores as well")
    cfg = copy.deepcopy(cfg)
    seed_all_rng(cfg.train.seed)
    if "model" not in cfg:
        if max_images or score or checkpoint:
            raise ValueError("images, scores and checkpoints need a config with a `model`")
        backbone = instantiate(cfg.backbone)
        return analyze_network(vit_of(backbone), network=_network(cfg), run=_plain_run(cfg, name))
    run, benchmark, model = _detector(cfg, name, checkpoint)
    if score and not run.checkpoint:
        raise ValueError("scores need a trained detector: pass --checkpoint")
    net = vit_of(model.backbone)
    report = analyze_network(net, network=_network(cfg), run=run)
    report = replace(report, source=benchmark.source.name)
    if run.checkpoint:
        report = replace(report, movements=_movements(cfg, net))
    if not (max_images or score):
        return report
    counts = _counts(net, report.layers, counts)
    ends = find_ends(
        net, report.layers, max(counts), progress=_bar("components to remove", "layer")
    )
    variants = [(end, count) for end in ENDS for count in counts]
    if max_images:
        samples, removals = [], []
        for domain in (d.name for d in benchmark.domains):
            images = DomainImages(cfg, benchmark, domain, max_images)
            changes = _feature_changes(model, images, ends, variants, domain)
            first = next(iter(changes.values()))[0].samples
            samples.append(_sample(benchmark, domain, images, first))
            removals += [
                Removal(domain, end, count, tuple(change.value() for change in found))
                for (end, count), found in changes.items()
            ]
        report = replace(report, samples=tuple(samples), removals=tuple(removals))
    if score:
        found, protocol = _scores(cfg, benchmark, model, ends, variants)
        report = replace(report, scores=found, protocol=protocol)
    return report


def analyze_forgetting(
    cfg: DictConfig, *, name: str = "", checkpoint: str = "", max_images: int = 50
) -> ForgettingReport:
    """Compare the features of the pretrained and the adapted backbone on the same images.

    Args:
        cfg: of a training run; it is not changed. `cfg.backbone`, without the adaptation, is what
            the training started from.
        name: of the config, for the report.
        checkpoint: file with the trained detector; else the one in `train.output_dir`, if any.
        max_images: per domain.

    Raises:
        ValueError: no checkpoint, one that started from another backbone, or a backbone without
            blocks.
    """
    cfg = copy.deepcopy(cfg)
    seed_all_rng(cfg.train.seed)
    run, benchmark, model = _detector(cfg, name, checkpoint)
    if not run.checkpoint:
        raise ValueError(
            "an untrained detector has forgotten nothing: pass --checkpoint, or as "
            f"train.output_dir the folder of a run; {cfg.train.output_dir} holds none"
        )
    net = vit_of(model.backbone)
    plain = _pretrained(cfg, net)
    samples, drifts = [], []
    for domain in (d.name for d in benchmark.domains):
        images = DomainImages(cfg, benchmark, domain, max_images)
        found, raw = ([LinearCKA() for _ in range(_depth(net))] for _ in range(2))
        for picture in _shown(images.pictures(model), len(images), domain):
            both = block_tokens(plain, picture), block_tokens(model.backbone, picture)
            for block, (before, after) in enumerate(zip(*both, strict=True)):
                found[block].update(as_read(before), as_read(after))
                raw[block].update(before, after)
        samples.append(_sample(benchmark, domain, images, found[0].samples))
        values = (tuple(cka.value() for cka in kind) for kind in (found, raw))
        drifts.append(Drift(domain, *values))
        _warn_if_few(samples[-1], net)
    return ForgettingReport(
        run=run,
        network=_network(cfg),
        source=benchmark.source.name,
        first_block=_first_block(net),
        samples=tuple(samples),
        drifts=tuple(drifts),
    )


# --- building ---------------------------------------------------------------------------------


def _detector(cfg: DictConfig, name: str, checkpoint: str) -> tuple[RunInfo, Benchmark, Any]:
    if checkpoint:
        cfg.train.init_checkpoint = checkpoint
    run = describe(cfg, name)
    benchmark, model = build(cfg)
    run = replace(run, **load_for_evaluation(cfg, model), torch=torch.__version__)
    return run, benchmark, model.eval()


def _pretrained(cfg: DictConfig, net: nn.Module) -> nn.Module:
    """Build the backbone that `net`, in its place, has been trained from, and make sure of it."""
    seed_all_rng(cfg.train.seed)  # an untrained backbone is repeated by the seed of its run
    backbone = instantiate(cfg.backbone).to(next(net.parameters()).device).eval()
    if problem := _difference(vit_of(backbone), net):
        raise ValueError(
            f"the checkpoint was trained from another backbone than cfg.backbone: {problem}. Pass "
            "the weights it started from; an untrained one needs the run's own train.seed"
        )
    return backbone


def _difference(plain: nn.Module, net: nn.Module) -> str:
    """Name a tensor that training cannot have changed and that differs, "" if there is none."""
    own = dict(plain.named_parameters())
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad and name in own and not torch.equal(parameter, own[name]):
            return f"{name} differs"
    for name, layer in net.named_modules():
        if isinstance(layer, LowRankLinear):
            weight = own[f"{name.removesuffix('.direction')}.weight"].double()
            if (original_weight(layer) - weight).norm() > ROUNDING * weight.norm():
                return f"the original weight of {name} differs"
    return ""


def _plain_run(cfg: DictConfig, name: str) -> RunInfo:
    return RunInfo(config=name, seed=cfg.train.seed)


def _depth(net: nn.Module) -> int:
    return len(net.blocks)  # type: ignore[arg-type]


def _network(cfg: DictConfig) -> str:
    return str(cfg.backbone.net.name) if "net" in cfg.backbone else ""


# --- parts of the analysis ----------------------------------------------------------------------


def _layers(net: nn.Module) -> tuple[str, ...]:
    """Names of the adapted layers; without any, of all Linear layers of blocks, or of all."""
    record = recall(net)
    if record is not None and record.digests:
        return tuple(record.digests)
    names = tuple(linear_layers(net))
    return tuple(name for name in names if block_index(name) is not None) or names


def _rank(net: nn.Module) -> int | None:
    ranks = {layer.rank for layer in net.modules() if isinstance(layer, LowRankLinear)}
    return ranks.pop() if len(ranks) == 1 else None


def _first_block(net: nn.Module) -> int | None:
    record = recall(net)
    names = () if record is None else tuple(record.digests)
    return min((i for n in names if (i := block_index(n)) is not None), default=None)


def _movements(cfg: DictConfig, net: nn.Module) -> tuple[Movement, ...]:
    knows = any(isinstance(layer, LowRankLinear) for layer in net.modules())
    original = None if knows else vit_of(_pretrained(cfg, net))
    select = None if knows else set(_layers(net)).__contains__
    return movements(net, original=original, select=select, progress=_bar("movement", "layer"))


def _counts(net: nn.Module, layers: Iterable[str], asked: Sequence[int]) -> tuple[int, ...]:
    chosen = linear_layers(net, set(layers).__contains__)
    # Rows of one part: q of a fused qkv has a third of them.
    smallest = min(
        min(shape[0] // len(part_names(name)), shape[1])
        for name, layer in chosen.items()
        for shape in [cast(Tensor, layer.weight).shape]
    )
    wrong = [count for count in asked if not 1 <= count <= smallest]
    if wrong:
        raise ValueError(f"counts must be 1..{smallest} for these matrices, got {wrong}")
    return tuple(sorted(set(asked))) or tuple(c for c in COUNTS if c < smallest) or (1,)


def _feature_changes(
    model: Any,
    images: DomainImages,
    ends: Mapping[str, Any],
    variants: Iterable[tuple[End, int]],
    domain: str,
) -> dict[tuple[End, int], list[FeatureChange]]:
    net = vit_of(model.backbone)
    changes = {variant: [FeatureChange() for _ in range(_depth(net))] for variant in variants}
    pictures = list(images.pictures(model))
    # Other layers are dear to make and many to keep, so that the images come once per variant.
    for (end, count), found in _shown(changes.items(), len(changes), domain, unit="variant"):
        layers = reduced(net, ends, end=end, count=count)
        for picture in pictures:
            before = block_tokens(model.backbone, picture)
            with exchanged(net, layers):
                after = block_tokens(model.backbone, picture)
            for change, x, y in zip(found, before, after, strict=True):
                change.update(as_read(x), as_read(y))
    return changes


def _scores(
    cfg: DictConfig,
    benchmark: Benchmark,
    model: Any,
    ends: Mapping[str, Any],
    variants: Sequence[tuple[End, int]],
) -> tuple[tuple[ScoreWithout, ...], Protocol]:
    def loader(dataset_name: str) -> Iterable[list[dict[str, Any]]]:
        return instantiate({**cfg.dataloader.test, "dataset_name": dataset_name})

    whole = evaluate(model, benchmark, loader=loader, extras=Extras(replicates=0))
    found = [ScoreWithout(s.domain, end, 0, s.ap50) for end in ENDS for s in whole.scores]
    for end, count in variants:
        logger.info("without the %d %s components of every matrix:", count, end)
        net = vit_of(model.backbone)
        with exchanged(net, reduced(net, ends, end=end, count=count)):
            table = evaluate(model, benchmark, loader=loader, extras=Extras(replicates=0))
        found += [ScoreWithout(s.domain, end, count, s.ap50) for s in table.scores]
    return tuple(found), whole.protocol


def _sample(benchmark: Benchmark, domain: str, images: DomainImages, tokens: int) -> DomainSample:
    role: Literal["source", "target"] = "source" if domain == benchmark.source.name else "target"
    return DomainSample(domain, role, len(images), images.available, tokens)


def _warn_if_few(sample: DomainSample, net: nn.Module) -> None:
    channels = int(net.embed_dim)  # type: ignore[arg-type]
    if sample.tokens < 10 * channels:
        logger.warning(
            "%s: %d tokens for %d channels make any features look alike; take more images",
            sample.domain,
            sample.tokens,
            channels,
        )


def _bar(what: str, unit: str) -> Any:
    return partial(tqdm, desc=what, unit=unit, disable=None)


def _shown(items: Iterable[Any], total: int, domain: str, unit: str = "image") -> Iterable[Any]:
    return tqdm(items, total=total, desc=domain, unit=unit, disable=None)
