"""YAML files that a user writes, read as text alone and looked through entry by entry."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ..untrusted.text import reason, shown

MOST_BYTES = 200_000  # of a file: PyYAML takes up to 30 seconds a megabyte


def read_yaml(path: Path) -> object:
    """Return what a file holds: mappings, lists and texts, numbers among these.

    Raises:
        ValueError: it cannot be read, is too large, has tags, or an entry twice.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it must have at most {MOST_BYTES:,} bytes")
        with path.open(encoding="utf-8") as stream:
            return yaml.load(stream, _TextLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"not a readable YAML file: {reason(text)}") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error}") from error


def mapping_of(
    value: object, where: str, required: set[str], optional: set[str]
) -> dict[str, object]:
    """Return a mapping that has all the required entries and none that is unknown."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} must hold the entries {sorted(required)}, got {brief(value)}")
    unknown = sorted(brief(key) for key in value if key not in required | optional)
    missing = sorted(required - value.keys())
    if unknown or missing:
        raise ValueError(
            f"{where} must hold {sorted(required)} and may hold {sorted(optional)}: "
            f"missing {missing}, unknown {unknown[:5]}"
        )
    return value


def list_of(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list, got {brief(value)}")
    return value


def texts_of(value: object, where: str) -> tuple[str, ...]:
    return tuple(text_of(item, where) for item in list_of(value, where))


def text_of(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where} must be a text, got {brief(value)}")
    return value


def brief(value: object) -> str:
    return "nothing" if value is None or value == "" else reprlib.repr(value)


class _TextLoader(yaml.BaseLoader):
    """Every scalar is text; a key written twice is an error, and so is a tag (`!!type`)."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        if getattr(event, "tag", None) not in (None, "!"):
            raise ValueError(f"it must have no tags, got {event.tag[:80]!r}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            keys = Counter(str(key.value) for key, _ in node.value)
            twice = sorted(shown(key[:80]) for key, count in keys.items() if count > 1)
            raise ValueError(f"an entry may appear once, got {', '.join(twice[:5])} more than once")
        return mapping
