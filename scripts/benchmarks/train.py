"""The training step of an adapted backbone, beside full fine-tuning, PEFT and a frozen one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from sora_det.adapt import LoRA, adapted_layers
from sora_det.backbones import vit
from sora_det.backbones.timm_vit import block_maps
from sora_det.backbones.weights import TimmViT

from .flops import Stack
from .layer import PRECISIONS
from .memory import kept_bytes, megabytes, peak_bytes
from .peers import with_peft
from .results import Result
from .timing import Ratio, Timing, in_turns, ratio, step_clock

RANK, PATCH = 16, 16


@dataclass(frozen=True)
class Case:
    """A stack of transformer blocks and its images, one at a time."""

    name: str
    network: str  # of timm
    depth: int
    side: int  # of the square image, pixels
    precision: str  # bf16 is autocast over float32 weights

    def __str__(self) -> str:
        return f"{self.name}, {self.depth} blocks, {self.side} pixels, {self.precision}"


CASES = tuple(
    Case(name, network, depth, side, precision)
    for name, network, depth, sides in (
        ("ViT-B", "vit_base_patch14_dinov2", 12, (512, 1024)),
        ("ViT-L", "vit_large_patch14_dinov2", 6, (512,)),
    )
    for side in sides
    for precision in PRECISIONS
)


@dataclass(frozen=True)
class Trainee:
    """A network, what maps images to the maps of its blocks, and what changes its weights."""

    net: nn.Module
    maps: Callable[[Tensor], list[Tensor]]
    optimizer: AdamW | None


def train(
    repetitions: int, *, cases: Sequence[Case] | None = None, ways: Sequence[str] | None = None
) -> Result:
    """Measure training steps: maps of four blocks, their backward pass, AdamW.

    Args:
        repetitions: of every step.
        cases: by default stacks of the widths of ViT-B and ViT-L.
        ways: keys of `WAYS`, with "full", "peft" and "ours"; by default all.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if cases is None:
        cases = [case for case in CASES if device.type == "cpu" or case.precision == "bf16"]
    timings: list[Timing] = []
    ratios: list[Ratio] = []
    facts: dict[str, str] = {}
    for case in cases:
        torch.compiler.reset()  # what it compiled for one network counts for all of them
        made = {name: WAYS[name](case, device) for name in ways or WAYS}
        found = _measure(case, repetitions, device, made, facts)
        del made
        share = flops_ratio(case)
        facts[f"{case}: FLOPs of ours / full"] = f"{share:.3f}"
        timings += found
        ratios += _ratios(case, found, share)
    return Result(
        "train",
        f"maps of four blocks of one image, backward pass, AdamW; low-rank terms of rank {RANK} in "
        "all but the first third of the blocks",
        timings,
        ratios,
        facts,
    )


def flops_ratio(case: Case) -> float:
    """Return the FLOPs of a step of ours over those of full fine-tuning, products alone."""
    stack = Stack(_width(case), case.depth, (case.side // PATCH) ** 2, PATCH)
    return stack.low_rank(RANK, case.depth // 3) / stack.full()


def _width(case: Case) -> int:
    with torch.device("meta"):
        return int(backbone(case).embed_dim)


def backbone(case: Case, *, recompute: bool = False, compiled: bool = False) -> TimmViT:
    """Build the untrained network of a case."""
    return vit(
        case.network,
        random_init=True,
        img_size=case.side,
        depth=case.depth,
        recompute_blocks=recompute,
        compile_blocks=compiled,
    )


def _measure(
    case: Case,
    repetitions: int,
    device: torch.device,
    trainees: dict[str, Trainee],
    facts: dict[str, str],
) -> list[Timing]:
    torch.manual_seed(0)
    images = torch.randn(1, 3, case.side, case.side, device=device)
    with torch.no_grad():
        grads = [torch.randn_like(one) for one in trainees["ours"].maps(images)]
    steps = {name: partial(_step, t, images, grads, case) for name, t in trainees.items()}
    clock = step_clock()
    found = in_turns({f"{case}: {n}": step for n, step in steps.items()}, repetitions, clock=clock)
    alone = {
        f"{case}: AdamW alone, {name}": _optimizer(trainees[name].net).step
        for name in ("full", "ours")
    }
    found += in_turns(alone, repetitions, clock=clock)
    del alone
    for name in ("full", "peft", "ours"):
        kept = kept_bytes(trainees[name].net, partial(_forward, trainees[name], images, case))
        facts[f"{case}: kept for the backward pass, {name}"] = megabytes(kept)
    for name, step in steps.items():
        facts[f"{case}: highest memory of a step, {name}"] = megabytes(peak_bytes(step))
    return found


def _ratios(case: Case, timings: Sequence[Timing], share: float) -> list[Ratio]:
    by_name = {timing.name.removeprefix(f"{case}: "): timing for timing in timings}
    full = by_name["full"]
    by_name["floor"] = Timing(f"{share:.3f} full", tuple(share * s for s in full.seconds))
    pairs = [("ours", "full"), ("ours", "floor"), ("ours", "peft"), ("ours recomputed", "ours")]
    pairs += [("ours compiled", "ours"), ("full compiled", "full")]
    found = [ratio(by_name[a], by_name[b]) for a, b in pairs if a in by_name]
    return [replace(one, to=one.to.removeprefix(f"{case}: ")) for one in found]


def _optimizer(net: nn.Module) -> AdamW:
    """Return one of copies of what trains in `net`, with gradients."""
    copies = [p.detach().clone().requires_grad_() for p in net.parameters() if p.requires_grad]
    for one in copies:
        one.grad = torch.ones_like(one)
    return AdamW(copies, lr=1e-4)


def _forward(trainee: Trainee, images: Tensor, case: Case) -> list[Tensor]:
    kind = PRECISIONS[case.precision]
    with torch.autocast(images.device.type, kind, enabled=case.precision != "fp32"):
        return trainee.maps(images)


def _step(trainee: Trainee, images: Tensor, grads: Sequence[Tensor], case: Case) -> None:
    with torch.set_grad_enabled(trainee.optimizer is not None):
        maps = _forward(trainee, images, case)
    if trainee.optimizer is not None:
        trained = [(m, g.to(m.dtype)) for m, g in zip(maps, grads, strict=True) if m.requires_grad]
        torch.autograd.backward([m for m, _ in trained], [g for _, g in trained])
        trainee.optimizer.step()
        trainee.optimizer.zero_grad()


def _trainee(case: Case, device: torch.device, net: nn.Module, inner: nn.Module) -> Trainee:
    net.to(device).train()
    depth = case.depth
    blocks = [depth // 3 - 1, depth // 2 - 1, 2 * depth // 3 - 1, depth - 1]
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = AdamW(trained, lr=1e-4) if trained else None
    return Trainee(net, partial(block_maps, inner, blocks=blocks), optimizer)


def _full(case: Case, device: torch.device, **options: bool) -> Trainee:
    net = backbone(case, **options)
    return _trainee(case, device, net, net)


def _frozen(case: Case, device: torch.device) -> Trainee:
    net = backbone(case).requires_grad_(False)
    return _trainee(case, device, net, net)


def _ours(case: Case, device: torch.device, **options: bool) -> Trainee:
    net = LoRA(rank=RANK)(backbone(case, **options))
    return _trainee(case, device, net, net)


def _peft(case: Case, device: torch.device) -> Trainee:
    names = list(adapted_layers(LoRA(rank=RANK)(backbone(case))))
    net = backbone(case)
    return _trainee(case, device, with_peft(net, names, RANK), net)


WAYS: dict[str, Callable[[Case, torch.device], Trainee]] = {
    "frozen": _frozen,
    "full": _full,
    "peft": _peft,
    "ours": _ours,
    "ours recomputed": partial(_ours, recompute=True),
    "ours compiled": partial(_ours, compiled=True),
    "full compiled": partial(_full, compiled=True),
}
