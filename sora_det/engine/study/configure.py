"""What a run trains: its config, and the checksums that tell it from any other."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig, OmegaConf

from ...data.benchmark import Benchmark
from ...data.toy import write_toy
from ...evaluation.truth import read_truth
from ..config import load_config, override_config
from .plan import Run
from .read import Method, Study, slug

# What may be given on the command line, as it differs between machines and moves no score but by
# the files' contents, of which `Key` has checksums.
OF_MACHINES = (
    "backbone.net.weights",
    "benchmark.file",
    "benchmark.root",
    "dataloader.test.num_workers",
    "dataloader.train.num_workers",
    "train.device",
)
_ELSEWHERE = (*OF_MACHINES, "adaptation.start_file", "train.output_dir", "train.log_period")


@dataclass(frozen=True)
class Key:
    """SHA-256 of what decides the scores of a run; `weights` is "" without a file of them."""

    config: str
    data: str
    weights: str

    @property
    def digest(self) -> str:
        """SHA-256 of all three."""
        return _sha256(self.config + self.data + self.weights)


class Configs:
    """The configs of all runs of a study.

    Args:
        study: what is compared.
        root: the checkout, which the study's files lie below.
        work: folder for the runs.
        machine: overrides, `key=value`, of keys among `OF_MACHINES`.

    Raises:
        OSError, ValueError: files are missing, or a key does not exist or is not the machine's.
    """

    def __init__(self, study: Study, *, root: Path, work: Path, machine: Sequence[str]) -> None:
        wrong = [text for text in machine if text.partition("=")[0] not in OF_MACHINES]
        if wrong:
            raise ValueError(
                f"{wrong[0]!r} is no matter of the machine ({', '.join(OF_MACHINES)}): what moves "
                "scores stands in the study's file"
            )
        self.study, self.root, self.work, self.machine = study, root, work, list(machine)
        self._methods = {m.name: self._method(m) for m in study.methods}
        first = self._methods[study.methods[0].name]
        if study.toy:
            write_toy(Path(first.benchmark.file).parent, progress=None, **study.toy)
        self._keys: dict[Run, Key] = {}
        self._data = _data_sha256(instantiate(first.benchmark))
        self._weights = {name: _weights_sha256(cfg) for name, cfg in self._methods.items()}

    def config(self, run: Run) -> DictConfig:
        """Return the config of a run, but for its output folder."""
        cfg = copy.deepcopy(self._methods[run.method])
        sets = self.study.method(run.method).sets
        given = [f"{key}={run.rate:g}" for key in sets] + [f"train.seed={run.seed}"]
        if run.phase == "search":
            held_out = self.study.search.held_out
            given += [f"benchmark.held_out={held_out:g}", "train.evaluation.split=val"]
        return override_config(cfg, given)

    def key(self, run: Run) -> Key:
        if run not in self._keys:
            self._keys[run] = self._key(run)
        return self._keys[run]

    def _key(self, run: Run) -> Key:
        cfg = self.config(run)
        for name in _ELSEWHERE:
            parent, _, last = name.rpartition(".")
            node: Any = OmegaConf.select(cfg, parent)
            if isinstance(node, DictConfig):
                node.pop(last, None)
        text = OmegaConf.to_yaml(cfg, sort_keys=True)
        return Key(_sha256(text), self._data, self._weights[run.method])

    def folder(self, run: Run) -> Path:
        """Return the run's output folder; other configs, data or weights have another one."""
        return self.work / f"{run.name}-{self.key(run).digest[:8]}"

    def write(self, run: Run) -> Path:
        """Write the config of a run into its folder and return its path."""
        cfg, folder = self.config(run), self.folder(run)
        cfg.train.output_dir = str(folder)
        if "start_file" in cfg.adaptation:  # all seeds and rates decompose the same weights
            cfg.adaptation.start_file = str(self.work / f"{slug(run.method)}-start.safetensors")
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{slug(run.method)}.yaml"  # its name stands in the results
        LazyConfig.save(cfg, str(file))
        return file

    def _method(self, method: Method) -> DictConfig:
        cfg = load_config(self.root / self.study.config)
        axis = load_config(self.root / method.adaptation)
        missing = sorted({"adaptation", "hooks"} - {*axis})
        if missing:
            raise ValueError(f"{method.adaptation} defines no {' and no '.join(missing)}")
        cfg.adaptation, cfg.hooks = axis.adaptation, axis.hooks
        settings = {**self.study.settings, **method.settings}
        try:
            cfg = override_config(cfg, [f"{key}={value}" for key, value in settings.items()])
            return override_config(cfg, self.machine)
        except ValueError as error:
            raise ValueError(f"method {method.name!r} of {self.study.name}: {error}") from error


def _data_sha256(benchmark: Benchmark) -> str:
    """Hash names, sizes and boxes of all images, those that are trained on included."""
    splits = [(benchmark.source.name, "train"), *((d.name, "test") for d in benchmark.domains)]
    return _sha256("\n".join(read_truth(benchmark, *s).split.annotations for s in splits))


def _weights_sha256(cfg: DictConfig) -> str:
    file = OmegaConf.select(cfg, "backbone.net.weights")
    if not file:
        return ""
    shipped = Path(str(resources.files("sora_det"))) / "assets" / f"{file}.safetensors"
    path = shipped if shipped.is_file() else Path(str(file)).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: pass backbone.net.weights=FILE")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
