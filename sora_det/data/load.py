"""A benchmark's YAML file to a `Benchmark`.

    name: my_weather
    root: my_weather             # relative: see load_benchmark
    format: voc                  # or coco
    classes: [two_wheeler, person]
    class_map:                   # optional: further names in the files, by class
      two_wheeler: [bike, motorbike]
    source: {name: clear, folder: clear/VOC2007, train: train, test: test}
    targets:
      - {name: fog, folder: [fog/VOC2007, Fog/VOC2007], test: train}

For `coco` a split is `{annotations: file.json, images: folder}`. All texts are taken as they are
written: a class called `no` or `2020` needs no quotes.
"""

from __future__ import annotations

import os
import reprlib
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ..untrusted.text import reason, shown
from .benchmark import FORMATS, ROLES, Benchmark, Domain, check_length, check_shown

MOST_BYTES = 200_000  # of a file: PyYAML takes up to 30 seconds a megabyte

# What the file must and may hold.
_REQUIRED = {"name", "format", "classes", "source", "targets"}
_OPTIONAL = {"root", "class_map"}


def load_benchmark(
    file: str | os.PathLike[str],
    *,
    root: str | None = None,
    on_bad_image: str = "error",
    cache: bool = True,
) -> Benchmark:
    """Read the description of a benchmark; its images and annotations are not looked at.

    The root is, in this order: `root`; the file's own if absolute; the file's own below the
    folder that the environment variable DETECTRON2_DATASETS names, if it exists there; the
    file's own below the folder of the file. One that begins with a dot (`.`, `../data`) always
    starts from the folder of the file. `on_bad_image` and `cache`
    are `Benchmark`'s.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a benchmark; the message names the file and the entry.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"no benchmark file {path}: give the path of a .yaml file")
    try:
        entries = _mapping(_parse(path), "the file", _REQUIRED, _OPTIONAL)
        form = _text(entries["format"], "format")
        if form not in FORMATS:
            raise ValueError(f"format must be one of {FORMATS}, got {form!r}")
        return Benchmark(
            name=_text(entries["name"], "name"),
            root=_root(path, entries.get("root"), root),
            format=form,
            classes=_texts(entries["classes"], "classes"),
            class_map=_class_map(entries.get("class_map") or {}),
            source=_domain(entries["source"], "source", form, {"train", "test"}, {"val"}),
            targets=tuple(
                _domain(target, f"targets[{i}]", form, {"test"}, set())
                for i, target in enumerate(_list(entries["targets"], "targets"))
            ),
            on_bad_image=on_bad_image,
            cache=cache,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {reason(error)}") from error


def class_count(benchmark: Benchmark) -> int:
    """Number of classes, for `num_classes=L(class_count)(benchmark="${benchmark}")`."""
    return benchmark.num_classes


class _TextLoader(yaml.BaseLoader):
    """Every scalar is text; a key written twice is an error, and so is a tag (`!!type`)."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        if getattr(event, "tag", None) not in (None, "!"):
            raise ValueError(f"a benchmark has no tags, got {event.tag[:80]!r}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            keys = Counter(str(key.value) for key, _ in node.value)
            twice = sorted(shown(key[:80]) for key, count in keys.items() if count > 1)
            raise ValueError(f"an entry may appear once, got {', '.join(twice[:5])} more than once")
        return mapping


def _parse(path: Path) -> object:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"a benchmark has at most {MOST_BYTES:,} bytes")
        with path.open(encoding="utf-8") as stream:
            return yaml.load(stream, _TextLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"not a readable YAML file: {reason(text)}") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error}") from error


def _root(file: Path, own: object, given: str | None) -> Path:
    if given:
        return Path(given).expanduser()
    if not own:
        raise ValueError("there is no root: name one in the file, or pass root=…")
    text = _text(own, "root")
    check_shown(text, "root")
    check_length(text, "root")
    try:
        root = Path(text).expanduser()
    except RuntimeError as error:  # ~ of somebody who is not there
        raise ValueError(f"root {text!r} is of an unknown user") from error
    datasets = os.environ.get("DETECTRON2_DATASETS")
    beside = text.split("/")[0] in (".", "..")
    if datasets and not beside and (Path(datasets).expanduser() / root).is_dir():
        return Path(datasets).expanduser() / root
    return file.parent / root


def _domain(value: object, where: str, form: str, required: set[str], optional: set[str]) -> Domain:
    entries = _mapping(value, where, {"name", "folder"} | required, optional)
    splits, images = {}, {}
    for role in (role for role in ROLES if role in entries):
        label = f"{where}.{role}"
        if form == "voc":
            splits[role] = _text(entries[role], label).removesuffix(".txt")
            continue
        pair = _mapping(entries[role], label, {"annotations"}, {"images"})
        splits[role] = _text(pair["annotations"], f"{label}.annotations")
        images[role] = _text(pair.get("images") or ".", f"{label}.images")
    folder = entries["folder"]
    folders = (folder,) if isinstance(folder, str) else _texts(folder, f"{where}.folder")
    return Domain(_text(entries["name"], f"{where}.name"), folders, splits, images)


def _class_map(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(
            f"class_map must list names by class, as in 'two_wheeler: [bike, motorbike]', got "
            f"{_short(value)}"
        )
    names: dict[str, str] = {}
    for own, others in value.items():
        own = _text(own, "class_map")
        for name in _texts(others, f"class_map.{own}"):
            if name in names:
                raise ValueError(f"class_map gives {name!r} to {names[name]!r} and to {own!r}")
            names[name] = own
    return names


def _mapping(
    value: object, where: str, required: set[str], optional: set[str]
) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must hold the entries {sorted(required)}, got {_short(value)}")
    unknown = sorted(_short(key) for key in value if key not in required | optional)
    missing = sorted(required - value.keys())
    if unknown or missing:
        raise ValueError(
            f"{where} must hold {sorted(required)} and may hold {sorted(optional)}: "
            f"missing {missing}, unknown {unknown[:5]}"
        )
    return value


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list, got {_short(value)}")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    return tuple(_text(item, where) for item in _list(value, where))


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where} must be a text, got {_short(value)}")
    return value


def _short(value: object) -> str:
    return "nothing" if value is None or value == "" else reprlib.repr(value)
