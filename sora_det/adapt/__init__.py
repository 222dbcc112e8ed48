"""SoRA and its rivals on any `nn.Module`: pure PyTorch, no detector needed."""

from .inject import inject
from .lora import start_at_zero
from .low_rank import LowRankLinear, Split, low_rank
from .merge import merge
from .recipes import Frozen, Full, LoRA, Recipe, SoRA
from .select import blocks, every, leaf
from .sora import split_minor, split_principal
from .state import Trainable, adapter_parameters, trainable

__all__ = [
    "Frozen",
    "Full",
    "LoRA",
    "LowRankLinear",
    "Recipe",
    "SoRA",
    "Split",
    "Trainable",
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
