"""What an audit has found, as plain data, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from textwrap import shorten

from ...untrusted.text import shown

VERSION = 1

# Every kind of problem, in the order of the table. docs/data.md says more of each.
KINDS = {
    "missing-folder": "a domain has no folder",
    "missing-split": "a split has no file",
    "unreadable-split": "the file of a split is not what it should be",
    "empty-split": "a split names no image",
    "bad-name": "a name or a link leads out of its folder, or cannot be shown",
    "duplicate-id": "an id stands in a split more than once",
    "missing-image": "an image is not there",
    "missing-annotation": "an annotation file is not there",
    "unreadable-image": "an image cannot be read to its end",
    "unreadable-annotation": "an annotation is malformed",
    "size-differs": "an image has another size than its annotation says",
    "uncertain-orientation": "EXIF turns an image, and its size cannot tell whether the boxes are",
    "unknown-class": "objects of a class that the benchmark does not have",
    "inverted-box": "a box ends before it begins",
    "empty-box": "a box without area",
    "box-outside": "a box reaches out of its image by more than a pixel",
    "repeated-image": "two images of a split are the same file",
    "train-test-same": "an image is listed for training and for testing",
    "train-test-copy": "a file to test on is a copy of one to train on",
    "train-test-near": "an image to test on looks like one to train on",
}


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes:
        kind: one of `KINDS`.
        split: "<domain>/<role>".
        image: its id or name, "" if it is not about one image.
        detail: what is wrong, in words.
    """

    kind: str
    split: str
    image: str
    detail: str

    def __str__(self) -> str:
        return shown(" ".join(part for part in (self.split, self.image, self.detail) if part))


@dataclass(frozen=True)
class SplitCount:
    """A split, with its number of images and of boxes of the benchmark's classes."""

    split: str
    images: int
    boxes: int


@dataclass(frozen=True)
class Audit:
    """What was looked at, and every problem.

    Attributes:
        benchmark: its name.
        root: the folder of its data.
        splits: in the benchmark's order.
        findings: in the order of `KINDS`, then of the splits.
        distance: bits of 256 in which the looks of near-duplicates may differ.
        files: images and annotation files looked at.
        cached: of those, how many were known from an earlier audit.
    """

    benchmark: str
    root: str
    splits: tuple[SplitCount, ...]
    findings: tuple[Finding, ...]
    distance: int
    files: int
    cached: int

    def counts(self) -> dict[str, int]:
        """Number of problems by kind, of the kinds that were found."""
        found = [one.kind for one in self.findings]
        return {kind: found.count(kind) for kind in KINDS if kind in found}

    def problems(self, allowed: Collection[str] = ()) -> int:
        """Number of problems whose kind is not `allowed`."""
        return sum(one.kind not in allowed for one in self.findings)

    def to_text(self, *, first: int = 3, allowed: Collection[str] = (), width: int = 160) -> str:
        """Render tables of splits and of problems.

        Args:
            first: problems shown of each kind.
            allowed: kinds that are marked so.
            width: letters that a problem may take.
        """
        rows = [("split", "images", "boxes")]
        rows += [(one.split, f"{one.images:,}", f"{one.boxes:,}") for one in self.splits]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [f"{shown(self.benchmark)} in {shown(self.root)}", ""]
        lines += [
            f"{split:{widths[0]}}  {images:>{widths[1]}}  {boxes:>{widths[2]}}".rstrip()
            for split, images, boxes in rows
        ]
        lines += ["", f"{self.files:,} files looked at, {self.cached:,} of them known from before"]
        for kind, count in self.counts().items():
            mark = " (allowed)" if kind in allowed else ""
            lines += ["", f"{kind}: {count:,}{mark} - {KINDS[kind]}"]
            some = [one for one in self.findings if one.kind == kind][:first]
            lines += [f"    {shorten(str(one), width, placeholder=' …')}" for one in some]
            if count > len(some):
                lines.append(f"    … and {count - len(some):,} more")
        return "\n".join([*lines, "", self._verdict(allowed), ""])

    def _verdict(self, allowed: Collection[str]) -> str:
        count = self.problems(allowed)
        spared = len(self.findings) - count
        end = f", {spared:,} allowed" if spared else ""
        return f"{count:,} problems{end}" if count else f"no problems{end}"

    def to_json(self) -> str:
        document = {
            "format": "sora_det.audit",
            "version": VERSION,
            **asdict(self),
            "counts": self.counts(),
        }
        return json.dumps(document, indent=1) + "\n"
