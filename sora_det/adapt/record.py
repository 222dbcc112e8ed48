"""What was done to a network: kept on it, and written into adapter files."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

ATTRIBUTE = "sora_adaptation"  # networks have modules called adaptation


@dataclass(frozen=True)
class Adaptation:
    """How a network was adapted.

    Attributes:
        method: such as "SoRA".
        digests: of the weight of every adapted Linear layer before, by its name; see `digest`.
            Values are "" where the original weights are unknown.
        base: name of the pretrained network, in words.
        options: the method's arguments, plain values.
        start_block: the first adapted block, if that is how the layers were chosen.
        trained: names of the network's own parameters that were set free to train, biases for
            instance; kept so that they are saved even if somebody has frozen them since.
    """

    method: str
    digests: Mapping[str, str]
    base: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    start_block: int | None = None
    trained: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names and digests of the adapted layers; "" if a digest is unknown.

        Only these layers count, so that the same base with position embeddings for another image
        size has the same fingerprint.
        """
        if not all(self.digests.values()):
            return ""
        lines = "".join(f"{name} {self.digests[name]}\n" for name in sorted(self.digests))
        return hashlib.sha256(lines.encode()).hexdigest()


def digest(weight: Tensor) -> str:
    """Return the SHA-256 of shape and values as float32: the same in any type that holds them."""
    values = weight.detach().to("cpu", torch.float32).contiguous()
    found = hashlib.sha256(f"{tuple(values.shape)}\n".encode())
    found.update(values.numpy().astype("<f4", copy=False).data)
    return found.hexdigest()


def digests(net: nn.Module, layers: Iterable[str]) -> dict[str, str]:
    """Return the `digest` of the weight of each of `layers`."""
    return {name: digest(net.get_parameter(f"{name}.weight")) for name in layers}


def base_name(net: nn.Module) -> str:
    """Name the network: timm knows the architecture, any other goes by its class."""
    known = getattr(net, "pretrained_cfg", None) or {}
    return str(known.get("architecture") or type(net).__name__)


def remember(net: nn.Module, adaptation: Adaptation) -> None:
    """Keep `adaptation` on `net`."""
    setattr(net, ATTRIBUTE, adaptation)


def recall(net: nn.Module) -> Adaptation | None:
    """Return how `net` itself was adapted, if it was."""
    # Of the module itself: a compiled network passes questions on to the one inside.
    found = vars(net).get(ATTRIBUTE)
    return found if isinstance(found, Adaptation) else None


def trained_names(net: nn.Module) -> tuple[str, ...]:
    """Return the names of all parameters of `net` that require gradients."""
    return tuple(name for name, parameter in net.named_parameters() if parameter.requires_grad)


def forget(net: nn.Module) -> None:
    """Drop what is kept on `net` and everything in it."""
    for module in net.modules():
        if recall(module) is not None:
            delattr(module, ATTRIBUTE)
