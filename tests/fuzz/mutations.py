"""Inputs for readers: valid files with something changed, and bytes of any kind.

A maker is given a source of random numbers and returns an input, the same for the same numbers.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

Maker = Callable[[Random], bytes]
Place = tuple[str | int, ...]

# What stands in the place of a value: of another type, of an odd size, or made to mislead.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 255, 2**31, 2**63, 2**64, -(2**63), 10**400),
    *(0.5, -0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "a", "1", "-1", "nan", "null", "[]", "a" * 300, "9" * 5000, "é", "日本"),
    *("\x1b[2J\x1b[31m", "a\nb", "a\rb", "\x00", "\ud800", "\u202egpj.exe", "\x9b1m", "\ufeffa"),
    *("../../etc/passwd", "/etc/passwd", "C:\\x", "a/../b", "~root/x", "${oc.env:HOME}"),
    *("=1+1", "<script>alert(1)</script>", "](javascript:alert(1))", "$(touch canary)"),
    *([], {}, [[]], [{}], [1], ["a"], {"a": 1}, {"": ""}, [None] * 5, [[[[[[1]]]]]]),
)
TOKENS = (
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xfe\xff", b"\n", b"\r", b'"', b"'", b"\\", b"\\u0000"),
    *(b"[" * 3000, b'{"a":' * 3000, b"<a>" * 3000, b"]", b"}", b",", b":", b"- ", b"&a ", b"*a"),
    *(b"9" * 5000, b"NaN", b"-Infinity", b"1e999", b"null", b"true", b"!!python/object:os.system "),
    *(b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"&#27;", b"<![CDATA[", b"<?xml?>", b"PK\x03\x04"),
    *(b"\x80\x02", b"cos\nsystem\n", b"R", b".", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\xff"),
)


def one_of(*makers: Maker) -> Maker:
    """Return a maker that leaves it to one of several; one named twice comes twice as often."""
    return lambda random: random.choice(makers)(random)


def changed_bytes(valid: bytes) -> Maker:
    """A valid file in which some bytes are others, missing, repeated or added."""
    return lambda random: change_bytes(random, valid)


def change_bytes(random: Random, valid: bytes) -> bytes:
    data = bytearray(valid)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        start, length = random.randrange(len(data) + 1), random.randint(1, 40)
        kind = random.randrange(7)
        if kind == 0:
            data[start : start + 1] = random.randbytes(1)
        elif kind == 1 and start < len(data):
            data[start] ^= 1 << random.randrange(8)
        elif kind == 2:
            del data[start : start + length]
        elif kind == 3:
            del data[start:]
        elif kind == 4:
            data[start:start] = random.choice(TOKENS)
        elif kind == 5:
            data[start:start] = data[start : start + length]
        else:
            data[start : start + length] = random.randbytes(random.randrange(9))
    return bytes(data)


def change_tree(random: Random, valid: Any) -> Any:
    """Plain values in which some are odd, missing, renamed, repeated or exchanged."""
    tree = copied(valid)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(walk(tree))
        at = random.choice(places)
        kind = random.randrange(7)
        if not at or kind <= 3:
            tree = put(tree, at, copied(random.choice(ODD)))
        elif kind == 4:
            del find(tree, at[:-1])[at[-1]]
        elif kind == 5:
            tree = put(tree, at, copied(find(tree, random.choice(places))))
        else:
            around = find(tree, at[:-1])
            if isinstance(around, list):
                around.append(copied(around[int(at[-1])]))
            else:
                around[random.choice(("a", "", "id", "\x1b[2J"))] = around.pop(at[-1])
    return tree


def changed_json(valid: Any) -> Maker:
    """A JSON document: its values changed, its text changed, or any bytes."""
    text = as_json(valid)

    def by_value(random: Random) -> bytes:
        return as_json(change_tree(random, valid))

    return one_of(by_value, by_value, by_value, changed_bytes(text), anything(text))


def anything(valid: bytes) -> Maker:
    """Bytes without a plan, or the beginning of a valid file before such bytes."""

    def make(random: Random) -> bytes:
        begun = valid[: random.randrange(len(valid) + 1)] if random.random() < 0.7 else b""
        return begun + random.randbytes(random.randrange(65))

    return make


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def walk(tree: Any, at: Place = ()) -> Iterator[Place]:
    """Yield the places of all values, the whole one first."""
    yield at
    if len(at) < 8:
        inner: Sequence[Any] = ()
        if isinstance(tree, dict):
            inner = list(tree)
        elif isinstance(tree, list):
            inner = range(len(tree))
        for key in inner:
            yield from walk(tree[key], (*at, key))


def find(tree: Any, at: Place) -> Any:
    for key in at:
        tree = tree[key]
    return tree


def put(tree: Any, at: Place, value: Any) -> Any:
    if not at:
        return value
    find(tree, at[:-1])[at[-1]] = value
    return tree


def copied(tree: Any) -> Any:
    """Copy lists and dictionaries; whatever else is in them is shared."""
    if isinstance(tree, dict):
        return {key: copied(value) for key, value in tree.items()}
    return [copied(value) for value in tree] if isinstance(tree, list) else tree
