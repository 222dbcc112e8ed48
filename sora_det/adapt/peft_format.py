"""Exchange with Hugging Face PEFT: LoRA folders that it loads, and that it wrote.

Such a folder holds adapter_config.json and adapter_model.safetensors. PEFT itself is not needed.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .adapter import LARGEST, Adapter, LayerInfo, collect
from .errors import AdaptationError, brief
from .peft_patterns import Patterns, compile_patterns, of_pattern
from .record import Adaptation
from .store import check_names, write_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MOST_BYTES = 1_000_000  # of the former; PEFT's own have some thousands
PREFIX = "base_model.model."

# Starts that leave the base weights as they are. The others of PEFT change them, and say so
# nowhere in the file.
STARTS: tuple[object, ...] = (True, False, None, "gaussian", "eva", "orthogonal")
CHANGED = ("pissa", "olora", "corda", "lora_ga")

# What an imported adapter depends on, and what has no effect on a trained one. Any other setting
# that is not empty is refused, so that one which PEFT introduces tomorrow is not overlooked.
KINDS: dict[str, type] = {  # each may also be null
    "rank_pattern": dict,
    "alpha_pattern": dict,
    "use_rslora": bool,
    "use_dora": bool,
    "base_model_name_or_path": str,
    "auto_mapping": dict,
}
READ = {"peft_type", "r", "lora_alpha", "init_lora_weights", *KINDS}
WITHOUT_EFFECT = {
    "target_modules",  # the tensors name the layers
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "modules_to_save",  # stored as plain tensors, which replace those of the network
    "bias",  # likewise
    "lora_dropout",
    "inference_mode",
    "task_type",
    "revision",
    "peft_version",
    "runtime_config",
    "megatron_core",
    "qalora_group_size",
    "eva_config",
    "corda_config",
    "lora_ga_config",
}


def export_peft(source: nn.Module | Adapter, folder: str | Path) -> None:
    """Write an adapter so that `PeftModel.from_pretrained(net, folder)` loads it.

    `net` is the plain network with its original weights. A low-rank term that was taken out of the
    weight is written as the change against the original one, of twice the rank; PEFT knows no
    groups, so that a fused qkv gets a block-diagonal lora_B of three times the rank.

    Args:
        source: an adapted network, or an adapter.
        folder: is made if need be; the two files in it are replaced.

    Raises:
        AdaptationError: PEFT cannot express it; nothing is written.
        OSError: a file cannot be written.
    """
    adapter = source if isinstance(source, Adapter) else collect(source)
    if not adapter.layers:
        raise AdaptationError(
            f"{adapter.adaptation.method} has no low-rank layers, which is all that PEFT's LoRA "
            "format holds: use save_adapter(), or merge() and save the network"
        )
    with_length = [name for name in adapter.layers if f"{name}.magnitude" in adapter.tensors]
    if with_length and len(with_length) < len(adapter.layers):
        raise AdaptationError("PEFT's use_dora holds for all layers or none; here some are DoRA")
    if bypassed := _bypassed(source, adapter):
        raise AdaptationError(
            f"the attention around {bypassed} reads its weight and does not call it, so that PEFT "
            "would leave it unadapted: merge() and save the network instead"
        )
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for name, info in adapter.layers.items():
        up, down = adapter.tensors[f"{name}.up"], adapter.tensors[f"{name}.down"]
        lora_a, lora_b = down.flatten(0, 1), torch.block_diag(*up)  # (gR, in), (out, gR)
        tensors[f"{PREFIX}{name}.lora_A.weight"] = lora_a
        tensors[f"{PREFIX}{name}.lora_B.weight"] = lora_b
        if with_length:
            tensors[f"{PREFIX}{name}.lora_magnitude_vector"] = adapter.tensors[f"{name}.magnitude"]
        ranks[name], alphas[name] = len(lora_a), info.scale * len(lora_a)
    own = adapter.own()
    for name, value in own.items():
        layer, _, last = name.rpartition(".")
        inner = f"{layer}.base_layer.{last}" if layer in adapter.layers else name
        tensors[f"{PREFIX}{inner}"] = value
    beside = [name for name in own if name.rpartition(".")[0] not in adapter.layers]
    config = _config(ranks, alphas, bias="all" if beside else "lora_only" if own else "none")
    config["use_dora"] = bool(with_length)
    place = Path(folder).expanduser()
    write_tensors(place / WEIGHTS, tensors, {"format": "pt"})
    (place / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def import_peft(folder: str | Path) -> Adapter:
    """Read a LoRA, rsLoRA or DoRA adapter that PEFT wrote; `attach` then puts it onto a network.

    Names are those of the network that PEFT was given. The folder does not say which weights it
    was trained on, so that the adapter has no fingerprint.

    Raises:
        AdaptationError: it is another kind of adapter, uses a setting that has no counterpart here,
            was trained on changed base weights, or is incomplete.
        OSError: a file cannot be read.
    """
    place = Path(folder).expanduser()
    config = _read_config(place)
    _check_config(config)
    stored = _read_weights(place)
    layers: dict[str, LayerInfo] = {}
    tensors: dict[str, Tensor] = {}
    ending = ".lora_A.weight"
    names = [key.removesuffix(ending) for key in stored if key.endswith(ending)]
    patterns = (
        compile_patterns(config.get("rank_pattern"), names, CONFIG),
        compile_patterns(config.get("alpha_pattern"), names, CONFIG),
    )
    for name in names:
        layers[name] = _import_layer(name, stored, config, patterns, tensors)
    for key, value in stored.items():
        layer, _, part = key.rpartition(".lora_")
        if layer in layers and part in ("A.weight", "B.weight", "magnitude_vector"):
            continue
        if ".lora_" in key:
            raise AdaptationError(f"{key} has no counterpart here: only Linear layers have one")
        tensors[key.replace(".base_layer.", ".")] = value
    if not layers:
        raise AdaptationError(f"{place / WEIGHTS} holds no lora_A of a Linear layer")
    method = "DoRA" if config.get("use_dora") else "RsLoRA" if config.get("use_rslora") else "LoRA"
    options = {"rank": config["r"], "alpha": config["lora_alpha"], "source": "peft"}
    base = config.get("base_model_name_or_path") or (config.get("auto_mapping") or {}).get(
        "base_model_class"
    )
    adaptation = Adaptation(method, dict.fromkeys(layers, ""), str(base or ""), options)
    return Adapter(adaptation, layers, tensors)


def _config(ranks: Mapping[str, int], alphas: Mapping[str, float], *, bias: str) -> dict[str, Any]:
    """Return a LoRA configuration in which every layer has its own rank and alpha."""
    rank, alpha = Counter((ranks[name], alphas[name]) for name in ranks).most_common(1)[0][0]
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": _whole(alpha),
        # Patterns match whole names only: a list would also match names that end alike.
        "target_modules": "|".join(re.escape(name) for name in ranks),
        "rank_pattern": {f"^{re.escape(n)}": r for n, r in ranks.items() if r != rank},
        "alpha_pattern": {f"^{re.escape(n)}": _whole(a) for n, a in alphas.items() if a != alpha},
        "bias": bias,
        "use_rslora": False,
        "lora_dropout": 0.0,
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }


def _whole(number: float) -> float:
    return int(number) if float(number).is_integer() else number


def _bypassed(source: nn.Module | Adapter, adapter: Adapter) -> str:
    """Return a fused layer whose biases lie beside it, as in BEiT and EVA, or ""."""
    for name in adapter.layers:
        parent, _, last = name.rpartition(".")
        beside = f"{parent}.q_bias" if parent else "q_bias"
        owner = source.get_submodule(parent) if isinstance(source, nn.Module) else None
        if last == "qkv" and (
            beside in adapter.tensors or getattr(owner, "q_bias", None) is not None
        ):
            return name
    return ""


def _read_config(place: Path) -> dict[str, Any]:
    if not (place / CONFIG).is_file():
        raise AdaptationError(f"{place} holds no {CONFIG}: give a folder that PEFT saved")
    try:
        if (place / CONFIG).stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        config = json.loads((place / CONFIG).read_text(encoding="utf-8"))
        return {**{"r": 8, "lora_alpha": 8}, **config}  # PEFT's defaults
    except (ValueError, TypeError, RecursionError) as error:
        raise AdaptationError(
            f"{place / CONFIG} is no JSON object ({brief(str(error))})"
        ) from error


def _check_config(config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        kind = brief(config.get("peft_type"))
        raise AdaptationError(f"peft_type is {kind}, only LORA can be read")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.startswith(CHANGED):
        raise AdaptationError(
            f"init_lora_weights={brief(start)} changed the base weights. Save it in PEFT with "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...), which makes "
            "a plain LoRA of it, and read that"
        )
    if start not in STARTS:
        raise AdaptationError(f"init_lora_weights={brief(start)} has no counterpart here")
    other = {key: config.get(key) for key in KINDS if not _of_kind(config.get(key), KINDS[key])}
    if other:
        raise AdaptationError(f"{_shown(other)} is of no kind that PEFT writes into {CONFIG}")
    for key, pattern in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        numbers = [(key, config[key]), *(config.get(pattern) or {}).items()]
        wrong = {name: value for name, value in numbers if not _positive(value)}
        if wrong:
            raise AdaptationError(
                f"{CONFIG} needs numbers above 0 for ranks and alphas, not {brief(wrong)}"
            )
    harmless = READ | WITHOUT_EFFECT
    used = {key: value for key, value in config.items() if key not in harmless and value}
    if used:
        raise AdaptationError(f"these settings of PEFT have no counterpart here: {_shown(used)}")


def _of_kind(value: object, kind: type) -> bool:
    return value is None or type(value) is kind


def _positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= LARGEST


def _shown(settings: Mapping[str, object]) -> str:
    few = list(settings.items())[:9]
    return ", ".join(f"{brief(key)[1:-1]}={brief(value)}" for key, value in few)


def _read_weights(place: Path) -> dict[str, Tensor]:
    """Return the stored tensors by their names in the network that PEFT wrapped."""
    file = place / WEIGHTS
    if not file.is_file():
        raise AdaptationError(f"{place} holds no {WEIGHTS}: save with safe_serialization=True")
    try:
        stored = load_file(file)
    except SafetensorError as error:
        raise AdaptationError(
            f"{file} is no complete safetensors file ({brief(str(error))}): copy or download it "
            "again"
        ) from error
    check_names(stored)
    foreign = [key for key in stored if not key.startswith(PREFIX)]
    if foreign:
        raise AdaptationError(f"{foreign[0]} in {file} does not begin with {PREFIX}")
    return {key.removeprefix(PREFIX): value for key, value in stored.items()}


def _import_layer(
    name: str,
    stored: Mapping[str, Tensor],
    config: Mapping[str, Any],
    patterns: tuple[Patterns, Patterns],
    tensors: dict[str, Tensor],
) -> LayerInfo:
    """Add the tensors of one layer to `tensors` and return what else there is to know."""
    down, up = stored[f"{name}.lora_A.weight"], stored.get(f"{name}.lora_B.weight")
    if up is None or down.dim() != 2 or up.dim() != 2:
        raise AdaptationError(f"{name} is no complete pair of lora_A and lora_B of a Linear layer")
    rank = of_pattern(patterns[0], name, config["r"])
    if rank != len(down):
        raise AdaptationError(f"{name} has rank {len(down)}, but {CONFIG} says {rank}")
    alpha = of_pattern(patterns[1], name, config["lora_alpha"])
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    tensors[f"{name}.up"], tensors[f"{name}.down"] = up[None], down[None]  # one group
    magnitude = stored.get(f"{name}.lora_magnitude_vector")
    if (magnitude is not None) != bool(config.get("use_dora")):
        has = "no" if magnitude is None else "a"
        raise AdaptationError(
            f"{name} has {has} lora_magnitude_vector, but use_dora is {config.get('use_dora')}"
        )
    if magnitude is not None:
        tensors[f"{name}.magnitude"] = magnitude
    return LayerInfo(int(rank), 1, float(scale), moved=False)
