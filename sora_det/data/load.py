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
from pathlib import Path

from ..untrusted.text import reason
from .benchmark import FORMATS, ROLES, Benchmark, Domain, check_length, check_shown
from .yaml_text import brief, list_of, mapping_of, read_yaml, text_of, texts_of

# What the file must and may hold.
_REQUIRED = {"name", "format", "classes", "source", "targets"}
_OPTIONAL = {"root", "class_map"}


def load_benchmark(
    file: str | os.PathLike[str],
    *,
    root: str | None = None,
    on_bad_image: str = "error",
    cache: bool = True,
    held_out: float = 0.0,
) -> Benchmark:
    """Read the description of a benchmark; its images and annotations are not looked at.

    The root is, in this order: `root`; the file's own if absolute; the file's own below the
    folder that the environment variable DETECTRON2_DATASETS names, if it exists there; the
    file's own below the folder of the file. One that begins with a dot (`.`, `../data`) always
    starts from the folder of the file. `on_bad_image`, `cache` and `held_out` are `Benchmark`'s.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a benchmark; the message names the file and the entry.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"no benchmark file {path}: give the path of a .yaml file")
    try:
        entries = mapping_of(read_yaml(path), "the file", _REQUIRED, _OPTIONAL)
        form = text_of(entries["format"], "format")
        if form not in FORMATS:
            raise ValueError(f"format must be one of {FORMATS}, got {form!r}")
        return Benchmark(
            name=text_of(entries["name"], "name"),
            root=_root(path, entries.get("root"), root),
            format=form,
            classes=texts_of(entries["classes"], "classes"),
            class_map=_class_map(entries.get("class_map") or {}),
            source=_domain(entries["source"], "source", form, {"train", "test"}, {"val"}),
            targets=tuple(
                _domain(target, f"targets[{i}]", form, {"test"}, set())
                for i, target in enumerate(list_of(entries["targets"], "targets"))
            ),
            on_bad_image=on_bad_image,
            cache=cache,
            held_out=held_out,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {reason(error)}") from error


def class_count(benchmark: Benchmark) -> int:
    """Number of classes, for `num_classes=L(class_count)(benchmark="${benchmark}")`."""
    return benchmark.num_classes


def _root(file: Path, own: object, given: str | None) -> Path:
    if given:
        return Path(given).expanduser()
    if not own:
        raise ValueError("there is no root: name one in the file, or pass root=…")
    text = text_of(own, "root")
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
    entries = mapping_of(value, where, {"name", "folder"} | required, optional)
    splits, images = {}, {}
    for role in (role for role in ROLES if role in entries):
        label = f"{where}.{role}"
        if form == "voc":
            splits[role] = text_of(entries[role], label).removesuffix(".txt")
            continue
        pair = mapping_of(entries[role], label, {"annotations"}, {"images"})
        splits[role] = text_of(pair["annotations"], f"{label}.annotations")
        images[role] = text_of(pair.get("images") or ".", f"{label}.images")
    folder = entries["folder"]
    folders = (folder,) if isinstance(folder, str) else texts_of(folder, f"{where}.folder")
    return Domain(text_of(entries["name"], f"{where}.name"), folders, splits, images)


def _class_map(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(
            f"class_map must list names by class, as in 'two_wheeler: [bike, motorbike]', got "
            f"{brief(value)}"
        )
    names: dict[str, str] = {}
    for own, others in value.items():
        own = text_of(own, "class_map")
        for name in texts_of(others, f"class_map.{own}"):
            if name in names:
                raise ValueError(f"class_map gives {name!r} to {names[name]!r} and to {own!r}")
            names[name] = own
    return names
