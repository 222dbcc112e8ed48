"""Annotations in the form that labelling tools write, read without building a tree.

An XML parser calls back for every element, which takes most of the time that a data set takes to
read. Nearly all annotation files are plain: elements without attributes, each on its own, ASCII,
nothing that begins with `<!`, `<?` or `&`. What the expressions below match as a whole has one
meaning in XML, and that is the one they take; any other text is left to the parser, also one that
is merely laid out differently.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TEXT = rb"[\t\n\r -%'-;=?-~]*"  # ASCII but for & < > and what XML does not allow
_SPACE = rb"[ \t\n\r]*"
_NUMBER = rb"(\d{1,7}(?:\.\d{0,9})?)"  # is in the range of pixels
_SIDE = rb"([1-9]\d{0,6})"
_TAG = rb"[A-Za-z_]\w*"


def _element(tag: bytes, content: bytes) -> bytes:
    return rb"<%s>%s</%s>%s" % (tag, content, tag, _SPACE)


_OBJECT = re.compile(
    rb"<object>"
    + _SPACE
    + _element(b"name", rb"((?! )[ -%'-;=?-~]+(?<! ))")
    + b"".join(rb"(?:%s)?" % _element(tag, _TEXT) for tag in (b"pose", b"truncated", b"occluded"))
    + rb"(?:%s)?" % _element(b"difficult", b"([01])")
    + rb"(?:%s)?" % _element(b"occluded", _TEXT)
    + _element(
        b"bndbox",
        _SPACE + b"".join(_element(tag, _NUMBER) for tag in (b"xmin", b"ymin", b"xmax", b"ymax")),
    )
    + rb"</object>"
    + _SPACE
)

# Elements that say nothing here, with elements of theirs.
_OTHER = rb"(?:<(?!object>|size>)(%s)>%s(?:<(%s)>%s</\%d>%s)*</\%d>%s)*"


def _others(group: int) -> bytes:
    return _OTHER % (_TAG, _TEXT, _TAG, _TEXT, group + 1, _TEXT, group, _SPACE)


# What comes before the objects, which must follow each other, and what comes after them.
_HEAD = re.compile(
    _SPACE
    + rb"<annotation>"
    + _SPACE
    + _others(1)
    + _element(
        b"size",
        _SPACE
        + _element(b"width", _SIDE)
        + _element(b"height", _SIDE)
        + rb"(?:%s)?" % _element(b"depth", _TEXT),
    )
    + _others(5)
)
_END = b"</annotation>"


class Plain(NamedTuple):
    """What a plain annotation file says.

    Attributes:
        width: of the image, pixels.
        height: likewise.
        objects: lists of their names, of b"1" for each difficult one, and of xmin, ymin, xmax and
            ymax, as written.
    """

    width: int
    height: int
    objects: list[list[bytes]]


def read_plain(text: bytes) -> Plain | None:
    """Read an annotation; None if it is not plain, which is no fault."""
    head, *parts = _OBJECT.split(text)
    end = parts[-1] if parts else _END
    if not parts:
        head = head.rstrip(b" \t\n\r").removesuffix(_END)
    sheet = _HEAD.fullmatch(head)
    if sheet is None or end.rstrip(b" \t\n\r") != _END or any(parts[6:-1:7]):
        return None
    return Plain(int(sheet[3]), int(sheet[4]), [parts[i::7] for i in range(6)])
