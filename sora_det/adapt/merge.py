"""Fold adapters back into plain Linear layers."""

import copy

from torch import nn

from .low_rank import Adapted
from .record import forget
from .state import adapted_layers


def merge(net: nn.Module) -> nn.Module:
    """Return a copy of `net` in which ordinary Linear layers compute what the adapted ones did.

    `net` itself is not touched. The copy needs nothing of this package and costs what the
    pretrained network did.
    """
    if isinstance(net, Adapted):
        return net.merged()
    plain = copy.deepcopy(net)
    for name, layer in adapted_layers(plain).items():
        plain.set_submodule(name, layer.merged())
    forget(plain)
    return plain
