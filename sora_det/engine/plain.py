"""A trained detector without its adapters, as a folder that needs nothing but itself."""

import copy
import logging
from dataclasses import asdict
from pathlib import Path

from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig

from ..adapt import Merged, adapted_layers, merge
from .checkpoint import FINAL, Checkpoints, model_state
from .predict import load_detector
from .train import origin_of

logger = logging.getLogger(__name__)


def write_plain(cfg: DictConfig, folder: str | Path, *, checkpoint: str = "") -> Path:
    """Write the merged detector of a run, and a config that builds it without pretrained weights.

    Args:
        cfg: of the run, with the pretrained weights that it had; it is not changed.
        folder: is made. It gets model_final.pth, with every weight of the plain detector, and
            config.yaml, whose `train.output_dir` it is.
        checkpoint: file with the trained detector; else the last one in `train.output_dir`.

    Returns:
        The path of the checkpoint.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: one that does not fit, a detector without adapted layers, or a folder that holds
            checkpoints already.
    """
    store = Checkpoints(folder)
    if store.files():
        raise ValueError(f"{folder} holds checkpoints already: choose another folder")
    model = load_detector(cfg, checkpoint=checkpoint).model
    layers = adapted_layers(model)
    if not layers:
        raise ValueError(
            "there is nothing to merge: no layer of this detector is adapted, so that its own "
            "checkpoint is one of the plain detector already"
        )
    plain = merge(model)
    store.folder.mkdir(parents=True, exist_ok=True)
    state = model_state(plain.cpu(), whole=True)
    path = store.write(FINAL.removesuffix(".pth"), {**state, "origin": asdict(origin_of(model))})
    LazyConfig.save(plain_config(cfg, folder), str(store.folder / "config.yaml"))
    logger.info("merged %d layers: %s", len(layers), path)
    return path


def plain_config(cfg: DictConfig, folder: str | Path) -> DictConfig:
    """Return `cfg` for the merged detector in `folder`: nothing to adapt, nothing to load before.

    The method that trained it keeps its name in results.
    """
    plain = copy.deepcopy(cfg)
    plain.adaptation = L(Merged)(method=str(instantiate(cfg.adaptation)))
    plain.hooks = {}  # they are the adaptation's
    plain.backbone.net.update({"weights": "", "pretrained": False, "random_init": True})
    plain.train.init_checkpoint = ""
    plain.train.output_dir = str(folder)
    return plain
