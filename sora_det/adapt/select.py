"""Predicates on layer names such as `blocks.8.attn.qkv`."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

Select = Callable[[str], bool]

FUSED_PARTS = {"qkv": 3}  # layers that stack the weights of several, and of how many


@dataclass(frozen=True)
class Leaf:
    """A predicate that can be asked for the names it looks for."""

    names: tuple[str, ...]

    def __call__(self, layer: str) -> bool:
        return layer.rpartition(".")[2] in self.names


@dataclass(frozen=True)
class Every:
    """A predicate that can be asked for its parts."""

    selects: tuple[Select, ...]

    def __call__(self, layer: str) -> bool:
        return all(select(layer) for select in self.selects)


def leaf(*names: str) -> Leaf:
    """Match layers whose last name component is one of `names`, exactly: v does not match qkv."""
    return Leaf(names)


def leaf_names(select: Select) -> tuple[str, ...]:
    """Return the names that `leaf` was given, within `every` too; none if it is not known."""
    if isinstance(select, Every):
        return tuple(name for part in select.selects for name in leaf_names(part))
    return select.names if isinstance(select, Leaf) else ()


def blocks(start: int, stop: int | None = None, *, container: str = "blocks") -> Select:
    """Match layers of the blocks start <= i < stop (to the end if None) of `container`."""

    def select(layer: str) -> bool:
        index = block_index(layer, container=container)
        return index is not None and index >= start and (stop is None or index < stop)

    return select


def block_index(layer: str, *, container: str = "blocks") -> int | None:
    """Return 8 for `net.blocks.8.attn.qkv`, and None for a layer outside `container`."""
    parts = layer.split(".")
    for name, number in pairwise(parts):
        if name == container and number.isdecimal():
            return int(number)
    return None


def every(*selects: Select) -> Every:
    """Match layers that all of `selects` match."""
    return Every(selects)
