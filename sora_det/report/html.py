"""HTML and SVG as strings in which nothing is taken for markup that was not meant as such.

Names of classes, domains and files come from outside. `tag` escapes whatever is not `Markup`, so
that a forgotten call cannot let one of them through.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias

VOID = {"br", "hr", "img", "input", "link", "meta"}
ALONE = {"circle", "line", "path", "polyline", "rect"}  # of SVG, without content

# What HTML cannot hold, and characters that turn the direction of the text around them.
_UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


class Markup(str):
    """Text that is HTML already. Build it with `tag` and `join`."""

    __slots__ = ()


Child: TypeAlias = "str | int | float | Iterable[Child] | None"
Attribute: TypeAlias = "str | int | float | bool | None"


def escape(text: str) -> Markup:
    """Return `text` as HTML shows it, fit for content and for attributes in double quotes."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_UNFIT.sub("\N{REPLACEMENT CHARACTER}", text), quote=True))


def join(*children: Child) -> Markup:
    """Put children one after the other, whatever is not `Markup` escaped; None is nothing."""
    return Markup("".join(_flat(children)))


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """Return one element.

    Args:
        name: of the element.
        children: text, numbers, `Markup`, None or iterables of these.
        attributes: a trailing underscore is dropped (`class_`), others become hyphens
            (`data_value`). None and False leave an attribute out, True gives it no value.
    """
    head = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{head}>")
    content = join(*children)
    if name in ALONE and not content:
        return Markup(f"<{head}/>")
    return Markup(f"<{head}>{content}</{name}>")


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(_text(value))}"'


def _flat(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, str):
            yield escape(child)
        elif isinstance(child, int | float):
            yield escape(_text(child))
        else:
            yield from _flat(child)


def _text(value: str | int | float) -> str:
    """Return numbers short: two decimals are enough for coordinates."""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".") if "." in f"{value:.2f}" else f"{value:.2f}"
    return value if isinstance(value, str) else str(value)
