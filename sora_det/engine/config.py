"""Load a lazy config and apply command-line overrides, none of which may miss."""

import inspect
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig
from detectron2.utils.registry import locate
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf


def load_config(file: str | Path, overrides: Sequence[str] = ()) -> DictConfig:
    """Return the config in `file` with `key=value` overrides applied.

    A key must exist already, or be an argument that the callable of its parent names; what such a
    callable only passes on, as `vit` does with timm's own options, has to stand in the file. Values
    are written as Hydra reads them: 1e-4, null, [a,b], {a: 1}, 'any text in quotes'.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an override that is not `key=value`, a value that cannot be read, a key that
            does not exist, of which the message names the nearest, or a negative `train.seed`.
    """
    if not file:
        raise ValueError("no config file given: pass --config-file configs/<name>.py")
    if not Path(file).is_file():
        raise FileNotFoundError(f"no config file {file}")
    return override_config(LazyConfig.load(str(file)), overrides)


def override_config(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Return `cfg` with overrides applied, as `load_config` does it to a file's; `cfg` may change.

    Raises:
        ValueError: as there.
    """
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise ValueError(f"override {override!r} is not of the form key=value")
        _check_key(cfg, key)
        for inner in _inner_keys(_value(override)):
            _check_key(cfg, f"{key}.{inner}")
    cfg = LazyConfig.apply_overrides(cfg, list(overrides))
    seed = OmegaConf.select(cfg, "train.seed", default=0)
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"train.seed must be a whole number from 0, got {seed!r}")
    return cfg


def _value(override: str) -> Any:
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        key, _, text = override.partition("=")
        raise ValueError(
            f"cannot read the value of {key}: {str(error).splitlines()[0]}; "
            f"a text with special characters needs quotes: \"{key}='{text}'\""
        ) from error
    if parsed.is_sweep_override():
        raise ValueError(f"override {override!r} has several values; a list is written [a,b]")
    return parsed.value()


def _inner_keys(value: Any, prefix: str = "") -> Iterator[str]:
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield f"{prefix}{name}"
        yield from _inner_keys(inner, f"{prefix}{name}.")


def _check_key(cfg: DictConfig, key: str) -> None:
    node: Any = cfg
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if part not in _names(node):
            near = get_close_matches(key, [*_keys(cfg)], n=1, cutoff=0.4)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise ValueError(f"config has no key {key!r}{hint}")
        inner = parts[depth + 1 :]
        if inner and isinstance(node, DictConfig) and OmegaConf.is_interpolation(node, part):
            raise ValueError(_reference(node, part, ".".join(parts[: depth + 1]), inner))
        node = _child(node, part)


def _reference(node: DictConfig, part: str, key: str, inner: Sequence[str]) -> str:
    """Say what to set instead of something inside a reference, which would replace all of it."""
    plain: Any = OmegaConf.to_container(node)
    text = str(plain[part])
    other = ".".join([text.removeprefix("${").removesuffix("}"), *inner])
    return f"{key!r} is a reference to {text}; override {other!r} instead"


def _names(node: Any) -> list[str]:
    """Return the keys that may be set below `node`."""
    if isinstance(node, ListConfig):
        return [str(i) for i in range(len(node))]
    if not isinstance(node, DictConfig):
        return []
    return [*(str(name) for name in node), *_arguments(node.get("_target_"))]


def _arguments(target: Any) -> list[str]:
    if target is None:
        return []
    function = locate(target) if isinstance(target, str) else target
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some built-in types do not tell
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _child(node: Any, part: str) -> Any:
    if isinstance(node, ListConfig):
        return node[int(part)]
    return node[part] if part in node else None


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key below `node`, without following interpolations."""
    for name in _names(node):
        if name == "_target_":
            continue
        yield f"{prefix}{name}"
        if isinstance(node, DictConfig) and (
            name not in node or OmegaConf.is_interpolation(node, name)
        ):
            continue
        yield from _keys(_child(node, name), f"{prefix}{name}.")
