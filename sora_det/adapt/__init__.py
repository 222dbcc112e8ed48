"""SoRA and its rivals on any `nn.Module`: pure PyTorch, no detector needed."""

from .dora import DoRALinear
from .errors import AdaptationError
from .inject import inject
from .lora import start_at_zero
from .low_rank import Adapted, Added, LowRankLinear, Split, low_rank
from .merge import merge
from .recipes import BitFit, DoRA, Frozen, Full, LoRA, MiLoRA, PiSSA, Recipe, RsLoRA, SoRA
from .record import Adaptation
from .select import blocks, every, leaf
from .sora import split_minor, split_principal
from .state import Trainable, adapted_layers, adapter_parameters, trainable

__all__ = [
    "Adaptation",
    "AdaptationError",
    "Adapted",
    "Added",
    "BitFit",
    "DoRA",
    "DoRALinear",
    "Frozen",
    "Full",
    "LoRA",
    "LowRankLinear",
    "MiLoRA",
    "PiSSA",
    "Recipe",
    "RsLoRA",
    "SoRA",
    "Split",
    "Trainable",
    "adapted_layers",
    "adapter_parameters",
    "blocks",
    "every",
    "inject",
    "leaf",
    "low_rank",
    "merge",
    "split_minor",
    "split_principal",
    "start_at_zero",
    "trainable",
]
