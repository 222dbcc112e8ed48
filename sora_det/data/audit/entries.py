"""Splits and their images, as an audit reads them: nothing in them need be right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..images import Size
from .examine import Thing
from .report import Finding


@dataclass
class Entry:
    """An image of a split.

    Attributes:
        name: its id.
        image: its file, or where that should be.
        sheet: VOC's annotation file, or where it should be.
        size: COCO: width and height that are stated.
        things: COCO: its objects.
    """

    name: str
    image: Path
    sheet: Path | None = None
    size: Size | None = None
    things: list[Thing] = field(default_factory=list)


@dataclass
class Split:
    """One split of a domain.

    Attributes:
        name: "<domain>/<role>".
        train: it is trained on; the others are tested on.
        entries: its images, each once.
        findings: what is wrong with it.
    """

    name: str
    train: bool
    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def note(self, kind: str, image: str, detail: str) -> None:
        self.findings.append(Finding(kind, self.name, image, detail))

    def passes(self, check: Callable[[], object], image: str) -> bool:
        """Whether `check` raises no ValueError; if it does, that is a bad name."""
        try:
            check()
        except ValueError as error:
            self.note("bad-name", image, str(error))
            return False
        return True
