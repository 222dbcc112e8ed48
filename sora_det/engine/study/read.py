"""A study's YAML file to a `Study`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...data.benchmark import check_below, check_name, check_shown
from ...data.yaml_text import brief, list_of, mapping_of, read_yaml, text_of, texts_of
from ...untrusted.text import reason

METRICS = ("ap50", "coco_ap")
OF_METHODS = ("adaptation.", "hooks.", "optimizer.")  # what methods may differ in

_REQUIRED = {"name", "config", "reference", "seeds", "learning_rate", "methods"}
_OPTIONAL = {"question", "settings", "toy"}
_RATE = {"sets", "grid", "most", "seeds", "held_out", "metric", "checkpoint"}


@dataclass(frozen=True)
class Method:
    """What is compared.

    Attributes:
        name: as tables show it.
        adaptation: config file with `adaptation` and `hooks`, below the checkout.
        settings: its overrides, by key.
        sets: keys that are set to the learning rate.
    """

    name: str
    adaptation: str
    settings: Mapping[str, str]
    sets: tuple[str, ...]


@dataclass(frozen=True)
class Search:
    """How every method's learning rate is found.

    Attributes:
        grid: rates that every method tries, ascending.
        most: rates that a method tries at most, where its best lies at the edge of those tried.
        seeds: of the trainings of each rate.
        held_out: share of the source's training images that judges them.
        metric: by which, "ap50" or "coco_ap".
    """

    grid: tuple[float, ...]
    most: int
    seeds: tuple[int, ...]
    held_out: float
    metric: str


@dataclass(frozen=True)
class Study:
    """Methods × seeds on one benchmark, all with one budget.

    Attributes:
        name: of the study and of its folders.
        question: what it asks, a sentence.
        config: file of every run's base, below the checkout.
        reference: name of the method that differences are taken to.
        seeds: of the runs that are compared.
        settings: overrides of every run.
        search: of the learning rates.
        methods: in the order of the tables.
        toy: arguments of `write_toy`, if the study draws its benchmark itself.
    """

    name: str
    question: str
    config: str
    reference: str
    seeds: tuple[int, ...]
    settings: Mapping[str, str]
    search: Search
    methods: tuple[Method, ...]
    toy: Mapping[str, int] = field(default_factory=dict)

    def method(self, name: str) -> Method:
        return next(method for method in self.methods if method.name == name)


def slug(name: str) -> str:
    """Return a method's name as file names have it."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", name)


def read_study(file: str | Path) -> Study:
    """Read a study; none of the files that it names is looked at.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no study; the message names the file and the entry.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"no study file {path}: give the path of a .yaml file")
    try:
        return _study(mapping_of(read_yaml(path), "the file", _REQUIRED, _OPTIONAL))
    except ValueError as error:
        raise ValueError(f"{path}: {reason(error)}") from error


def _study(entries: Mapping[str, object]) -> Study:
    name = text_of(entries["name"], "name")
    check_name(name, "a study's name")
    sets, search = _search(entries["learning_rate"])
    given = entries["methods"]
    if not isinstance(given, dict) or not given:
        raise ValueError(f"methods must be entries 'name: {{...}}', got {brief(given)}")
    methods = tuple(_method(str(key), value, sets) for key, value in given.items())
    names = [method.name for method in methods]
    if len({slug(name).lower() for name in names}) < len(names):
        raise ValueError(f"methods must differ in letters and digits, got {names}")
    reference = text_of(entries["reference"], "reference")
    if reference not in names:
        raise ValueError(f"reference must be one of the methods {names}, got {reference!r}")
    question = text_of(entries.get("question", "-"), "question")
    check_shown(question, "question")
    toy = mapping_of(entries.get("toy") or {}, "toy", set(), {"train", "test", "size", "seed"})
    return Study(
        name=name,
        question="" if question == "-" else question,
        config=_file(entries["config"], "config"),
        reference=reference,
        seeds=_seeds(entries["seeds"], "seeds"),
        settings=_settings(entries.get("settings"), "settings"),
        search=search,
        methods=methods,
        toy={key: _whole(value, f"toy.{key}") for key, value in toy.items()},
    )


def _search(value: object) -> tuple[tuple[str, ...], Search]:
    entries = mapping_of(value, "learning_rate", _RATE, set())
    grid = tuple(_rate(item) for item in list_of(entries["grid"], "learning_rate.grid"))
    if len(grid) < 3 or list(grid) != sorted(set(grid)):
        raise ValueError(f"learning_rate.grid must be three ascending rates or more, got {grid}")
    most = _whole(entries["most"], "learning_rate.most")
    if most < len(grid):
        raise ValueError(f"learning_rate.most must be {len(grid)}, as the grid has, or more")
    held_out = _number(entries["held_out"], "learning_rate.held_out")
    if not 0 < held_out <= 0.5:
        raise ValueError(f"learning_rate.held_out must be above 0, at most 0.5, got {held_out:g}")
    metric = text_of(entries["metric"], "learning_rate.metric")
    if metric not in METRICS:
        raise ValueError(f"learning_rate.metric must be one of {METRICS}, got {metric!r}")
    if entries["checkpoint"] != "last":
        raise ValueError(f"learning_rate.checkpoint can only be last, got {entries['checkpoint']}")
    seeds = _seeds(entries["seeds"], "learning_rate.seeds")
    return _sets(entries["sets"], "learning_rate.sets"), Search(grid, most, seeds, held_out, metric)


def _method(name: str, value: object, sets: tuple[str, ...]) -> Method:
    check_name(name, "a method's name")
    where = f"methods.{name}"
    entries = mapping_of(value, where, {"adaptation"}, {"settings", "sets"})
    settings = _settings(entries.get("settings"), f"{where}.settings")
    shared = [key for key in settings if not key.startswith(OF_METHODS)]
    if shared:
        raise ValueError(
            f"{where}.settings may hold {', '.join(OF_METHODS)} alone, as all methods have the "
            f"same data, detector and budget: move {shared[0]} to the study's settings"
        )
    own = _sets(entries["sets"], f"{where}.sets") if "sets" in entries else sets
    return Method(name, _file(entries["adaptation"], f"{where}.adaptation"), settings, own)


def _settings(value: object, where: str) -> dict[str, str]:
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{where} must hold entries 'key: value', got {brief(value)}")
    found = {}
    for key, text in value.items():
        if not isinstance(text, str):
            raise ValueError(f"{where}.{key} must be a text or a number; quote a list: '[1,2]'")
        found[str(key)] = text
    return found


def _sets(value: object, where: str) -> tuple[str, ...]:
    keys = texts_of(value, where)
    odd = [key for key in keys if not key.startswith("optimizer.")]
    if not keys or odd:
        raise ValueError(f"{where} must name rates of the optimizer, got {list(keys)}")
    return keys


def _seeds(value: object, where: str) -> tuple[int, ...]:
    seeds = tuple(_whole(item, where) for item in list_of(value, where))
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"{where} must be seeds, each once, got {list(seeds)}")
    return seeds


def _file(value: object, where: str) -> str:
    path = text_of(value, where)
    check_below(path, where)
    return path


def _whole(value: object, where: str) -> int:
    text = text_of(value, where)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{where} must be a whole number from 0, got {brief(text)}")
    return int(text)


def _number(value: object, where: str) -> float:
    text = text_of(value, where)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where} must be a number, got {brief(text)}")
    return number


def _rate(value: object) -> float:
    rate = _number(value, "learning_rate.grid")
    if rate <= 0:
        raise ValueError(f"learning_rate.grid must hold positive rates, got {rate:g}")
    return rate
