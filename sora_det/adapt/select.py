"""Predicates on layer names such as `blocks.8.attn.qkv`."""

from collections.abc import Callable
from itertools import pairwise

Select = Callable[[str], bool]

FUSED_PARTS = {"qkv": 3}  # layers that stack the weights of several, and of how many


def leaf(*names: str) -> Select:
    """Match layers whose last name component is one of `names`, exactly: v does not match qkv."""
    return lambda layer: layer.rpartition(".")[2] in names


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


def every(*selects: Select) -> Select:
    """Match layers that all of `selects` match."""
    return lambda layer: all(select(layer) for select in selects)
