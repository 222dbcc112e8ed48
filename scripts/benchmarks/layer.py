"""The training step of one adapted layer, beside PEFT's, the reference's and its floor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from sora_det.adapt import LowRankLinear, low_rank, start_at_zero

from .memory import keep_freed_memory, kept_bytes, megabytes
from .peers import linear, reference, with_peft
from .results import Result
from .timing import Ratio, Timing, in_turns, ratio, step_clock

RANK = 16
TOKENS_PER_TURN = 4096
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
SHAPES = {"qkv": (1, 3, 3), "proj": (1, 1, 1), "fc1": (1, 4, 1), "fc2": (4, 1, 1)}
NAMES = {768: "ViT-B", 1024: "ViT-L"}


@dataclass(frozen=True)
class Case:
    """A layer and its work: widths, parts (3 for a fused qkv), tokens, precision.

    bf16 is autocast over float32 weights, as training runs have it.
    """

    name: str
    inner: int
    out: int
    groups: int
    tokens: int
    precision: str

    def __str__(self) -> str:
        return f"{self.name}, {self.tokens:,} tokens, {self.precision}"

    @property
    def frozen_flops(self) -> int:
        """Of the product with the frozen matrix and of its input gradient."""
        return 4 * self.tokens * self.inner * self.out

    @property
    def low_rank_flops(self) -> int:
        """Of three products with each factor: forward, gradient of its input, of itself."""
        return 6 * self.tokens * RANK * (self.groups * self.inner + self.out)


def layer(
    repetitions: int,
    *,
    widths: Sequence[int] = (768, 1024),
    tokens: Sequence[int] = (1024, 4096),
    names: Sequence[str] = tuple(SHAPES),
) -> Result:
    """Measure forward and backward passes of every layer of a block, input gradient included.

    Args:
        repetitions: of every layer.
        widths: of the transformer.
        tokens: in the batch; those of an image of 512 and 1024 pixels at patch size 16.
        names: of a block's layers.
    """
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cases = [
        Case(f"{NAMES.get(w, w)} {name}", w * inner, w * out, groups, count, precision)
        for precision in (("bf16",) if device.type == "cuda" else PRECISIONS)
        for w in widths
        for count in tokens
        for name, (inner, out, groups) in ((name, SHAPES[name]) for name in names)
    ]
    timings: list[Timing] = []
    ratios: list[Ratio] = []
    facts: dict[str, str] = {}
    for case in cases:
        found = _measure(case, repetitions, device, facts)
        share = case.low_rank_flops / case.frozen_flops
        facts[f"{case}: floor"] = f"{1 + share:.3f} of frozen"
        timings += found
        ratios += _ratios(case, found, share)
    return Result(
        "layer",
        f"forward and backward pass, gradients of input, bias and what else trains, rank {RANK}, "
        f"{TOKENS_PER_TURN:,} tokens a turn; bf16 is autocast",
        timings,
        ratios,
        facts,
    )


def _measure(
    case: Case, repetitions: int, device: torch.device, facts: dict[str, str]
) -> list[Timing]:
    torch.manual_seed(0)
    plain = nn.Linear(case.inner, case.out)
    ours = low_rank(plain, rank=RANK, start=start_at_zero, groups=case.groups)
    nn.init.normal_(ours.up, std=0.02)
    layers: dict[str, nn.Module] = {
        "frozen": linear(plain.weight, plain.bias).requires_grad_(False),
        "full": linear(plain.weight, plain.bias),
        "reference": reference(ours),
        "peft": with_peft(nn.Sequential(plain), ["0"], RANK),
        "ours": ours,
    }
    x = torch.randn(1, case.tokens, case.inner, device=device).requires_grad_()
    grad = torch.randn(1, case.tokens, case.out, device=device)
    if case.precision == "bf16":
        grad = grad.bfloat16()
    steps = {
        name: partial(_step, net.to(device), x, grad, case.precision)
        for name, net in layers.items()
    }
    products = _products(ours, x, grad)
    turns = max(1, TOKENS_PER_TURN // case.tokens)
    tasks: dict[str, Callable[[], object]] = {**steps, "thin products": products}
    timings = in_turns(
        {f"{case}: {name}": partial(_repeat, task, turns) for name, task in tasks.items()},
        repetitions,
        clock=step_clock(),
    )
    facts[f"{case}: largest difference to the reference"] = f"{_difference(steps):.1e}"
    facts[f"{case}: kept for the backward pass"] = ", ".join(
        f"{name} {megabytes(kept_bytes(net, partial(_forward, net, x, case.precision)))}"
        for name, net in layers.items()
    )
    return timings


def _ratios(case: Case, timings: Sequence[Timing], share: float) -> list[Ratio]:
    """Compare with the floors as well.

    The first counts thin products at the speed of the frozen matrix's, the second as measured.
    """
    frozen, full, reference, peft, ours, thin = timings
    floor = Timing("floor", tuple((1 + share) * seconds for seconds in frozen.seconds))
    alone = Timing(
        "frozen + thin products",
        tuple(a + b for a, b in zip(frozen.seconds, thin.seconds, strict=True)),
    )
    found = [ratio(ours, other) for other in (floor, alone, reference, peft)]
    found += [ratio(other, frozen) for other in (ours, reference, peft, full)]
    return [replace(one, to=one.to.removeprefix(f"{case}: ")) for one in found]


def _forward(net: nn.Module, x: Tensor, precision: str) -> tuple[Tensor, ...]:
    with torch.autocast(x.device.type, PRECISIONS[precision], enabled=precision != "fp32"):
        return tuple(part(x) for part in (net if isinstance(net, nn.ModuleList) else [net]))


def _step(net: nn.Module, x: Tensor, grad: Tensor, precision: str) -> tuple[list[Tensor], Tensor]:
    """Return outputs and the gradient of the input; gradients of parameters are dropped."""
    found = _forward(net, x, precision)
    torch.autograd.backward(found, grad.chunk(len(found), dim=-1))
    inner, x.grad = x.grad, None
    net.zero_grad(set_to_none=True)
    assert inner is not None
    return [part.detach() for part in found], inner


def _repeat(task: Callable[[], object], times: int) -> None:
    for _ in range(times):
        task()


def _products(ours: LowRankLinear, x: Tensor, grad: Tensor) -> Callable[[], None]:
    """Return the six products with the factors, with nothing around them: no sums, no new memory.

    A fused layer's factors have as many numbers as if all parts shared one input of each.
    """
    rows, outs = x.detach()[0].to(grad.dtype), grad[0]
    down, up = ours.down.detach().flatten(0, 1).to(rows), ours.up.detach().to(rows)
    t, y, inner = rows @ down.t(), torch.empty_like(outs), torch.empty_like(rows)
    parts = [p.contiguous() for p in outs.chunk(len(up), 1)]
    made = [p.contiguous() for p in y.chunk(len(up), 1)]
    given = [p.contiguous() for p in t.chunk(len(up), 1)]
    out_t, out_down = torch.empty_like(t), torch.empty_like(down)
    out_up = [torch.empty_like(one) for one in up.mT.contiguous()]

    def run() -> None:
        torch.mm(rows, down.t(), out=out_t)
        torch.mm(out_t, down, out=inner)
        torch.mm(out_t.t(), rows, out=out_down)
        for k, one in enumerate(up):
            torch.mm(given[k], one.t(), out=made[k])
            torch.mm(parts[k], one, out=given[k])
            torch.mm(given[k].t(), parts[k], out=out_up[k])

    return run


def _difference(steps: Mapping[str, Callable[[], tuple[list[Tensor], Tensor]]]) -> float:
    """Compare outputs and input gradients with the reference's, relative to the largest."""
    (ours, ours_inner), (theirs, theirs_inner) = steps["ours"](), steps["reference"]()
    pairs = [(torch.cat(ours, -1), torch.cat(theirs, -1)), (ours_inner, theirs_inner)]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
