"""SoRA and its rivals on any `nn.Module`: pure PyTorch, no detector needed."""

from .adapter import Adapter, attach, collect
from .dora import DoRALinear
from .errors import AdaptationError
from .files import load_adapter, read_adapter, read_header, save_adapter, write_adapter
from .inject import inject
from .lora import start_at_zero
from .low_rank import Adapted, Added, LowRankLinear, Split, low_rank
from .merge import merge
from .peft_format import export_peft, import_peft
from .recipes import (
    BitFit,
    DoRA,
    Frozen,
    Full,
    LoRA,
    Merged,
    MiLoRA,
    PiSSA,
    Recipe,
    RsLoRA,
    Saved,
    SoRA,
)
from .record import Adaptation
from .select import blocks, every, leaf
from .sora import split_minor, split_principal
from .state import Trainable, adapted_layers, adapter_parameters, trainable

__all__ = [
    "Adaptation",
    "AdaptationError",
    "Adapted",
    "Adapter",
    "Added",
    "BitFit",
    "DoRA",
    "DoRALinear",
    "Frozen",
    "Full",
    "LoRA",
    "LowRankLinear",
    "Merged",
    "MiLoRA",
    "PiSSA",
    "Recipe",
    "RsLoRA",
    "Saved",
    "SoRA",
    "Split",
    "Trainable",
    "adapted_layers",
    "adapter_parameters",
    "attach",
    "blocks",
    "collect",
    "every",
    "export_peft",
    "import_peft",
    "inject",
    "leaf",
    "load_adapter",
    "low_rank",
    "merge",
    "read_adapter",
    "read_header",
    "save_adapter",
    "split_minor",
    "split_principal",
    "start_at_zero",
    "trainable",
    "write_adapter",
]
