"""Images that are the same, or look the same, in what is trained on and what is tested on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from .entries import Entry, Split
from .examine import Picture
from .report import Finding

DISTANCE = 16  # bits of 256 in which two looks may differ

_BLOCK = 100_000  # OpenCV's matcher takes at most 2^18 at once

Place = tuple[Split, Entry]


def repeated(split: Split, pictures: Mapping[Path, Picture]) -> Iterator[Finding]:
    """Files of one split with the same content."""
    first: dict[str, Entry] = {}
    for entry in split.entries:
        digest = _digest(entry, pictures)
        known = first.setdefault(digest, entry) if digest else entry
        if known is not entry:
            detail = f"the same file as {known.name}"
            yield Finding("repeated-image", split.name, entry.name, detail)


def across(
    splits: Sequence[Split], pictures: Mapping[Path, Picture], distance: int
) -> Iterator[Finding]:
    """Images to test on that are also trained on: the same, a copy, or alike; each told once."""
    train = [(split, entry) for split in splits if split.train for entry in split.entries]
    test = [(split, entry) for split in splits if not split.train for entry in split.entries]
    by_path = {entry.image: (split, entry) for split, entry in reversed(train)}
    by_digest = {_digest(entry, pictures): (split, entry) for split, entry in reversed(train)}
    left = []
    for split, entry in test:
        digest = _digest(entry, pictures)
        if entry.image in by_path:
            yield _finding("train-test-same", split, entry, by_path[entry.image], "as")
        elif digest and digest in by_digest:
            yield _finding("train-test-copy", split, entry, by_digest[digest], "a copy of")
        else:
            left.append((split, entry))
    yield from _alike(left, train, pictures, distance)


def _alike(
    test: Sequence[Place], train: Sequence[Place], pictures: Mapping[Path, Picture], distance: int
) -> Iterator[Finding]:
    seen = [(place, look) for place in test if (look := _look(place[1], pictures))]
    known = [(place, look) for place in train if (look := _look(place[1], pictures))]
    found, bits = nearest(_rows([look for _, look in seen]), _rows([look for _, look in known]))
    for number in np.argsort(bits, kind="stable").tolist():  # the nearest first
        if bits[number] <= distance:
            (split, entry), _ = seen[number]
            what = f"{bits[number]} of 256 bits from"
            yield _finding("train-test-near", split, entry, known[found[number]][0], what)


def nearest(looks: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest of `among` for each of `looks`.

    Args:
        looks: (n, bytes) uint8.
        among: (m, bytes) uint8.

    Returns:
        (n,) index into `among`, -1 without any, and (n,) number of bits that differ.
    """
    index = np.full(len(looks), -1)
    bits = np.full(len(looks), looks.shape[1] * 8 + 1)
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING)
    for start in range(0, len(among) if len(looks) else 0, _BLOCK):
        for match in matcher.match(looks, among[start : start + _BLOCK]):
            if match.distance < bits[match.queryIdx]:
                bits[match.queryIdx] = int(match.distance)
                index[match.queryIdx] = start + match.trainIdx
    return index, bits


def _digest(entry: Entry, pictures: Mapping[Path, Picture]) -> str:
    return pictures[entry.image].digest if entry.image in pictures else ""


def _look(entry: Entry, pictures: Mapping[Path, Picture]) -> str:
    return pictures[entry.image].look if entry.image in pictures else ""


def _rows(looks: Sequence[str]) -> np.ndarray:
    return np.frombuffer(bytes.fromhex("".join(looks)), dtype=np.uint8).reshape(len(looks), 32)


def _finding(kind: str, split: Split, entry: Entry, other: Place, what: str) -> Finding:
    return Finding(kind, split.name, entry.name, f"{what} {other[1].name} in {other[0].name}")
