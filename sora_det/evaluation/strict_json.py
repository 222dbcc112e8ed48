"""Values parsed from JSON into dataclasses, exactly as annotated or not at all."""

from __future__ import annotations

import json
import math
import reprlib
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

LARGEST = 2**53  # of whole numbers: what floats hold exactly, and no count comes near


def parse(text: str) -> Any:
    """Parse JSON in which no object has a key twice; `decode` looks at the values.

    Raises:
        ValueError: anything else, or lists in lists beyond what Python can follow.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"must be JSON: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"an object has a key twice among {reprlib.repr(list(found))}")
    return found


def decode(kind: Any, value: Any, where: str) -> Any:
    """Check `value` against the annotation `kind` and build its dataclasses.

    Understands str, int, float (finite; whole numbers too), bool, None, Literal, unions, tuple[X,
    ...] and dataclasses of these. Fields with a default may be missing.

    Args:
        kind: a type annotation.
        value: what `json.loads` gave.
        where: path of the value in its document, for messages.

    Raises:
        ValueError: a missing or unknown key, a wrong type, or a value outside a Literal.
    """
    origin = get_origin(kind)
    if is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} must be a list, got {_show(value)}")
        item = get_args(kind)[0]
        return tuple(decode(item, entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if origin is Literal:
        if value not in get_args(kind):
            allowed = ", ".join(map(repr, get_args(kind)))
            raise ValueError(f"{where} must be one of {allowed}, got {_show(value)}")
        return value
    if origin in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not NoneType]
        if value is None and NoneType in get_args(kind):
            return None
        return decode(members[0], value, where)
    return _decode_plain(kind, value, where)


def _decode_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {_show(value)}")
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise ValueError(
            f"{where} must hold only {', '.join(known)}; unknown: {reprlib.repr(unknown)}"
        )
    hints = get_type_hints(kind)
    missing = [name for name in _required(kind) if name not in value]
    if missing:
        raise ValueError(f"{where} lacks {missing}")
    return kind(**{k: decode(hints[k], v, f"{where}.{k}") for k, v in value.items()})


def _required(kind: Any) -> list[str]:
    """Names of the fields without a default."""
    return [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]


def _decode_plain(kind: Any, value: Any, where: str) -> Any:
    if type(value) is int and not -LARGEST <= value <= LARGEST:
        raise ValueError(f"{where} must be within ±{LARGEST}, got {_show(value)}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} must be {kind.__name__}, got {_show(value)}")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{where} must be finite, got {value}")
    return value


def _show(value: Any) -> str:
    return f"{type(value).__name__} {reprlib.repr(value)}"
