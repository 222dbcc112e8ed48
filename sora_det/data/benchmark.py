"""A benchmark as a value: classes, one source domain, its target domains.

Nothing here looks at the disk; `load_benchmark` makes such a value from a YAML file and
`records` reads the data that it describes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

FORMATS = ("voc", "coco")
ROLES = ("train", "val", "test")
POLICIES = ("error", "skip")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ -]*")
_LONGEST = 240  # bytes of a file's name, which may get an ending, and characters of other names
_DEEPEST = 12  # parts of a path: all of them as long as that are still a path that can be opened

PLAIN_PATH = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"  # some that `check_below` finds no fault with

# What breaks a line or commands a terminal, turns the direction of writing, or is not to be seen.
_UNFIT = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True)
class Domain:
    """One weather, town or camera of a benchmark.

    Attributes:
        name: as the tables show it.
        folders: below the benchmark's root; alternatives, the first that exists is used.
        splits: role ("train", "val", "test") to split. VOC: the name of a file in
            ImageSets/Main, without .txt. COCO: the annotation file, below the folder.
        images: COCO only, role to the folder that the file's `file_name`s start from, below the
            domain's folder ("." if missing).
    """

    name: str
    folders: tuple[str, ...]
    splits: Mapping[str, str]
    images: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name, "a domain's name")
        if not self.folders:
            raise ValueError(f"domain {self.name!r} needs a folder, got none")
        for path in (*self.folders, *self.splits.values(), *self.images.values()):
            check_below(path, f"domain {self.name!r}")
        unknown = sorted(({*self.splits} | {*self.images}) - {*ROLES})
        if unknown:
            raise ValueError(f"roles of domain {self.name!r} must be among {ROLES}, got {unknown}")

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that can be asked for; "val" wherever there is a "train"."""
        known = {*self.splits, "val"} if "train" in self.splits else {*self.splits}
        return tuple(role for role in ROLES if role in known)

    def part(self, role: str) -> str:
        """The key of `splits` and `images` that serves `role`: "val" falls back on "test"."""
        if role not in self.roles:
            raise ValueError(f"domain {self.name!r} has the roles {self.roles}, got {role!r}")
        return role if role in self.splits else "test"


@dataclass(frozen=True)
class Benchmark:
    """Where a detector trains, where it is measured, and the classes it looks for.

    Attributes:
        name: first part of every dataset name.
        root: folder that holds the domains' folders.
        format: "voc" (one XML file per image) or "coco" (one JSON file per split).
        classes: in the order of category ids.
        class_map: further names in the annotation files, to the class that each stands for. A
            class is always known under its own name too.
        source: has the roles "train", "val" and "test"; "val", the split looked at during
            training, is "test" unless given.
        targets: have the role "test" alone.
        on_bad_image: what training does about an image or an annotation file of its split that
            cannot be used: "error" stops, "skip" goes on without. Where scores are made it is
            always an error.
        cache: keep what the annotation files of "voc" say in the user's cache folder, and read
            again only what has changed.
        held_out: share of the source's training images that is not trained on and serves as its
            "val" instead, in place of any other; 0 for none. Which images these are follows from
            their ids alone.
    """

    name: str
    root: Path
    format: str
    classes: tuple[str, ...]
    class_map: Mapping[str, str]
    source: Domain
    targets: tuple[Domain, ...]
    on_bad_image: str = "error"
    cache: bool = True
    held_out: float = 0.0

    def __post_init__(self) -> None:
        check_name(self.name, "a benchmark's name")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out must be a share from 0 to below 1, got {self.held_out}")
        if self.on_bad_image not in POLICIES:
            raise ValueError(f"on_bad_image must be one of {POLICIES}, got {self.on_bad_image!r}")
        if self.format not in FORMATS:
            raise ValueError(f"format must be one of {FORMATS}, got {self.format!r}")
        self._check_classes()
        if not {"train", "test"} <= {*self.source.splits}:
            raise ValueError(
                f"the source {self.source.name!r} needs the splits 'train' and 'test', got "
                f"{sorted(self.source.splits)}"
            )
        if not self.targets:
            raise ValueError("targets must name at least one domain, got none")
        for target in self.targets:
            if {*target.splits} != {"test"}:
                raise ValueError(
                    f"a target is only ever evaluated: {target.name!r} must have the split "
                    f"'test' alone, got {sorted(target.splits)}"
                )
        _check_unique((domain.name for domain in self.domains), "domains")

    def _check_classes(self) -> None:
        if not self.classes:
            raise ValueError("classes must name at least one class, got none")
        if not all(name and name == name.strip() for name in (*self.classes, *self.class_map)):
            raise ValueError("class names must not be empty nor start or end with a space")
        for name in (*self.classes, *self.class_map):
            check_shown(name, "a class's name", most=_LONGEST)
        _check_unique(self.classes, "classes")
        for name, target in self.class_map.items():
            if target not in self.classes:
                raise ValueError(
                    f"class_map leads to {target!r}, which is not among classes {self.classes}"
                )
            if name in self.classes and name != target:
                raise ValueError(f"class_map turns {name!r}, itself a class, into {target!r}")

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def domains(self) -> tuple[Domain, ...]:
        """All domains, the source first."""
        return (self.source, *self.targets)

    @property
    def category_ids(self) -> dict[str, int]:
        """Every name that annotation files may use, to its class's position in `classes`."""
        position = {name: i for i, name in enumerate(self.classes)}
        return position | {name: position[own] for name, own in self.class_map.items()}

    def domain(self, name: str) -> Domain:
        for domain in self.domains:
            if domain.name == name:
                return domain
        known = [domain.name for domain in self.domains]
        raise ValueError(f"benchmark {self.name!r} has the domains {known}, got {name!r}")

    def part(self, domain: str, role: str) -> str:
        """The key of the domain's `splits` that serves `role`: "train" where it is held out."""
        found = self.domain(domain)
        if self.held_out and role == "val" and found == self.source:
            return "train"
        return found.part(role)

    def dataset_name(self, domain: str, role: str) -> str:
        """The name in Detectron2's catalogue, such as "diverse_weather/Night-Sunny/test"."""
        found = self.domain(domain)
        found.part(role)  # raises for a role that the domain lacks
        return f"{self.name}/{domain}/{role}"


def check_name(name: str, what: str) -> None:
    """Names become parts of dataset names and of output files.

    Raises:
        ValueError: if `name` has characters that do not belong there.
    """
    if not _NAME.fullmatch(name) or name != name.strip() or len(name) > _LONGEST:
        raise ValueError(
            f"{what} must consist of letters, digits, spaces and _ . + -, not beginning with a "
            f"sign, got {name[:80]!r}"
        )


def check_shown(text: str, what: str, *, most: int = _LONGEST * _DEEPEST) -> None:
    """A text taken from a file may appear in logs, tables and on a terminal.

    Raises:
        ValueError: if `text` has more than `most` characters, or holds what commands a terminal or
            hides the rest.
    """
    if _UNFIT.search(text) or len(text) > most:
        raise ValueError(f"{what} must be short, of characters to be shown, got {text[:80]!r}")


def check_below(path: str, where: str) -> None:
    """A path taken from a file must stay below the folder that it is joined to.

    Raises:
        ValueError: if `path` is empty, absolute, climbs with '..', is too long or holds characters
            that cannot be shown.
    """
    pure = PurePosixPath(path.replace("\\", "/"))
    drive = re.match(r"[A-Za-z]:", path)
    if not path.strip() or pure.is_absolute() or drive or ".." in pure.parts or "\0" in path:
        raise ValueError(f"{where}: a path must be relative and free of '..', got {path[:80]!r}")
    check_length(path, where)
    check_shown(path, f"{where}: a path")


def check_length(path: str, where: str) -> None:
    """A path taken from a file must be one that a system can look for.

    Raises:
        ValueError: if `path` has too many parts, or too long ones.
    """
    parts = PurePosixPath(path.replace("\\", "/")).parts
    long = any(len(part.encode("utf-8", "surrogatepass")) > _LONGEST for part in parts)
    if long or len(parts) > _DEEPEST:
        raise ValueError(
            f"{where}: a path may have {_DEEPEST} parts of {_LONGEST} bytes, got {path[:80]!r}"
        )


def _check_unique(names: Iterable[str], what: str) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ValueError(f"{what} must differ from each other, got {twice} more than once")
