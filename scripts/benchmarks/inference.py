"""A merged backbone beside the plain one that it has become."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sora_det.adapt import LoRA, LowRankLinear, adapted_layers, merge
from sora_det.backbones.timm_vit import block_maps

from .layer import PRECISIONS
from .peers import with_peft
from .results import Result
from .timing import Ratio, Timing, in_turns, ratio, step_clock
from .train import RANK, Case, backbone


def inference(repetitions: int, *, cases: Sequence[Case] | None = None) -> Result:
    """Measure forward passes, and by how much merging changes what comes out.

    Args:
        repetitions: of every pass.
        cases: by default ViT-B on images of 256 pixels.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if cases is None:
        cases = [Case("ViT-B", "vit_base_patch14_dinov2", 12, 256, name) for name in PRECISIONS]
    timings: list[Timing] = []
    ratios: list[Ratio] = []
    facts: dict[str, str] = {}
    for case in cases:
        torch.manual_seed(0)
        images = torch.randn(1, 3, case.side, case.side, device=device)
        nets = {name: net.to(device).eval() for name, net in _networks(case).items()}
        passes = {name: partial(_maps, net, images, case) for name, net in nets.items()}
        tasks = {f"{case}: {name}": task for name, task in passes.items()}
        found = in_turns(tasks, repetitions, clock=step_clock())
        facts |= _facts(case, nets, passes)
        timings += found
        ratios += _ratios(case, found)
    return Result(
        "inference",
        f"maps of four blocks of one image; low-rank terms of rank {RANK} in all but the first "
        "third of the blocks, all of them trained",
        timings,
        ratios,
        facts,
    )


def _networks(case: Case) -> dict[str, nn.Module]:
    plain = backbone(case)
    for name, parameter in plain.named_parameters():
        if name.endswith("gamma"):  # untrained DINOv2 scales what its blocks add by 1e-5
            nn.init.ones_(parameter)
    adapted = LoRA(rank=RANK)(copy.deepcopy(plain))
    for layer in adapted_layers(adapted).values():
        assert isinstance(layer, LowRankLinear)
        nn.init.normal_(layer.up, std=0.02)
    with_terms: Any = with_peft(copy.deepcopy(plain), list(adapted_layers(adapted)), RANK)
    for name, parameter in with_terms.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    return {
        "plain": plain,
        "plain again": copy.deepcopy(plain),  # what it differs by is chance
        "merged": merge(adapted),
        "peft, merged": copy.deepcopy(with_terms).merge_and_unload(),
        "unmerged": adapted,
        "peft, unmerged": with_terms.base_model.model,
    }


@torch.inference_mode()
def _maps(net: nn.Module, images: Tensor, case: Case) -> list[Tensor]:
    blocks = [case.depth // 3 - 1, case.depth // 2 - 1, 2 * case.depth // 3 - 1, case.depth - 1]
    kind = PRECISIONS[case.precision]
    with torch.autocast(images.device.type, kind, enabled=case.precision != "fp32"):
        return block_maps(net, images, blocks)


def _facts(
    case: Case, nets: dict[str, nn.Module], passes: dict[str, partial[list[Tensor]]]
) -> dict[str, str]:
    pairs = list(zip(passes["merged"](), passes["unmerged"](), strict=True))
    difference = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    left = [m for m in nets["merged"].modules() if type(m).__module__.startswith("sora_det")]
    return {
        f"{case}: largest difference of merged and unmerged, of the largest output": (
            f"{difference:.1e}"
        ),
        f"{case}: modules of this package left": str(len(left)),
    }


def _ratios(case: Case, timings: Sequence[Timing]) -> list[Ratio]:
    by_name = {timing.name.removeprefix(f"{case}: "): timing for timing in timings}
    pairs = [("merged", "plain"), ("plain again", "plain"), ("peft, merged", "plain")]
    pairs += [("unmerged", "plain"), ("peft, unmerged", "plain")]
    found = [ratio(by_name[a], by_name[b]) for a, b in pairs]
    return [replace(one, to=one.to.removeprefix(f"{case}: ")) for one in found]
