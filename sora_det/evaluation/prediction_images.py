"""The images that a file of detections speaks of, found among those of a benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from ..untrusted.text import reason
from .ap import Array
from .prediction_files import SHOWN, Entries

Place = tuple[int, int]  # position of a domain among the known ones, index of the image in it


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a domain.

    Attributes:
        ids: each once.
        files: below the benchmark's root, with "/" between folders.
        size: (images, 2) width and height in pixels.
    """

    ids: Sequence[str]
    files: Sequence[str]
    size: Array


@dataclass(frozen=True, eq=False)
class Places:
    """Where the entries of a file belong.

    Attributes:
        domain: (N,) position of the domain among the known ones, -1 for an unknown image.
        index: (N,) of the image in its domain.
        listed: all known images that the file lists, None if it lists none.
    """

    domain: Array
    index: Array
    listed: frozenset[Place] | None


class Finder:
    """Knows the images of all domains by id and by name of file.

    Args:
        known: the images by domain.
        only: the one domain to look in, "" for all.
    """

    def __init__(self, known: Mapping[str, Images], only: str = "") -> None:
        self.domains, self.only = list(known), only
        self.by_id: dict[str, list[Place]] = {}
        self.by_name: dict[str, list[tuple[tuple[str, ...], Place]]] = {}
        for number, (domain, images) in enumerate(known.items()):
            if only not in ("", domain):
                continue
            for index, (name, file) in enumerate(zip(images.ids, images.files, strict=True)):
                self.by_id.setdefault(name, []).append((number, index))
                if parts := PurePosixPath(file).parts:
                    self.by_name.setdefault(parts[-1], []).append((parts, (number, index)))

    def find(self, image: int | str, file_name: str = "", domain: str = "") -> list[Place]:
        """Return all images that are meant, by the name of the file if there is one, else by id.

        Of two names one may have more folders before it than the other; the longest agreement wins.
        """
        if file_name:
            parts = PurePosixPath(file_name.replace("\\", "/")).parts
            length = {
                place: min(len(parts), len(own))
                for own, place in self.by_name.get(parts[-1] if parts else "", [])
                if own[-len(parts) :] == parts[-len(own) :]
            }
        else:
            length = dict.fromkeys(self.by_id.get(str(image), []), 1)
        if domain:
            length = {p: n for p, n in length.items() if self.domains[p[0]] == domain}
        return [place for place, n in length.items() if n == max(length.values())]

    def places(self, entries: Entries) -> Places:
        """Find the image of every entry; unknown ones are left to the caller.

        Raises:
            ValueError: an unknown domain, an image that could be several, that is listed under
                several ids, or that is not among those listed.
        """
        self._check_domains(entries)
        listed = {image.id: image for image in entries.listed or ()}
        if entries.listed is not None:
            _check_listed(entries, set(listed))
        width = len(entries.domains)
        keys = entries.image.astype(np.int64) * width + entries.domain  # image and domain as one
        distinct, inverse = np.unique(keys, return_inverse=True)
        table = np.full((len(distinct), 2), -1, dtype=np.int64)
        several: dict[str, list[Place]] = {}
        for row, key in enumerate(distinct.tolist()):
            image, domain = entries.ids[key // width], entries.domains[key % width]
            file = ""
            if image in listed:
                file, domain = listed[image].file_name, domain or listed[image].domain
            found = self.find(image, file, domain)
            if len(found) == 1:
                table[row] = found[0]
            elif found:
                several[file or str(image)] = found
        self._check_several(entries, several)
        own = None if entries.listed is None else self._listed(entries)
        return Places(table[inverse, 0], table[inverse, 1], own)

    def _listed(self, entries: Entries) -> frozenset[Place]:
        found = Counter(
            places[0]
            for image in entries.listed or ()
            if len(places := self.find(image.id, image.file_name, image.domain)) == 1
        )
        twice = [self._name(place) for place, count in found.items() if count > 1]
        if twice:
            raise ValueError(
                f"{entries.file}: {len(twice)} images are listed under several ids: {_some(twice)}"
            )
        return frozenset(found)

    def _check_domains(self, entries: Entries) -> None:
        allowed = {"", self.only} if self.only else {"", *self.domains}
        named = {*entries.domains, *(image.domain for image in entries.listed or ())}
        if wrong := sorted(named - allowed):
            wanted = self.only or ", ".join(self.domains)
            raise ValueError(
                f"{entries.file}: the domain must be {wanted} or left out, got {_some(wrong)}"
            )

    def _check_several(self, entries: Entries, several: Mapping[str, list[Place]]) -> None:
        if not several:
            return
        shown = [
            f"{name!r} ({', '.join(map(self._name, found[:SHOWN]))})"
            for name, found in several.items()
        ]
        raise ValueError(
            f"{entries.file}: {len(several)} images could be several of the benchmark's: "
            f"{_some(shown)}. Give one file per domain as DOMAIN=FILE, write a domain into every "
            "entry, or list the images with their file_name and its folders"
        )

    def _name(self, place: Place) -> str:
        return f"image {place[1]} of {self.domains[place[0]]}"


def _check_listed(entries: Entries, listed: set[int | str]) -> None:
    missing = [i for i, image in enumerate(entries.ids) if image not in listed]
    if missing:
        count = int(np.isin(entries.image, missing).sum())
        raise ValueError(
            f"{entries.file}: {count} of {len(entries)} entries are of {len(missing)} images that "
            f"its list of images lacks: {_some([repr(entries.ids[i]) for i in missing])}"
        )


def _some(names: Sequence[str]) -> str:
    """Join the first names, and say if there are more."""
    first = ", ".join(reason(name, 80) for name in names[:SHOWN])
    return first + (", …" if len(names) > SHOWN else "")
