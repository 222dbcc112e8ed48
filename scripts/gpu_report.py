#!/usr/bin/env python
"""Measure training steps of a large ViT on a GPU: images per second, memory, utilisation.

    python scripts/gpu_report.py --output output/gpu_report [--batches 2 4 8] [--peak-tflops 989]
    python scripts/gpu_report.py --output output/gpu_report --smoke

ViT-L/16 on images of 1024 pixels, bf16 by autocast, AdamW: SoRA, a low-rank layer as PEFT's,
full fine-tuning and a frozen network (forward pass alone), each with and without torch.compile.
Needs PyTorch, timm, safetensors and this checkout; neither Detectron2 nor an installation. What
fails, for want of memory as a rule, is one cell of the table. report.json and report.md are written
after every cell. --smoke is a tiny network on a CPU, to see that the script works.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Run as a script, this folder is on the path and its parent is not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import timm
import torch
from torch import Tensor, nn

from scripts.benchmarks.flops import Stack
from sora_det.adapt import SoRA, blocks, inject

RANK, PATCH = 16, 16
# Dense bf16, from NVIDIA's data sheets.
PEAKS = {"H100 PCIe": 756, "H100": 989, "H200": 989, "A100": 312, "L40S": 362, "L4": 121}


@dataclass(frozen=True)
class Work:
    """What is trained, and how often it is measured."""

    network: str  # of timm
    depth: int
    side: int  # of the square images, pixels
    batches: tuple[int, ...]
    steps: int
    device: str
    backend: str  # of torch.compile


@dataclass(frozen=True)
class Cell:
    """One row of the table. A failure has words instead of numbers."""

    way: str
    compiled: bool
    batch: int
    images_per_second: float | None = None
    peak_gigabytes: float | None = None
    tflops: float | None = None  # of the products that the way needs, per second
    failure: str = ""


class PeftStyle(nn.Module):
    """A low-rank layer in the form of Hugging Face PEFT's: a layer, two more and a sum."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, RANK, bias=False)
        self.up = nn.Linear(RANK, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        return y + self.up(self.down(x))


def frozen(net: nn.Module) -> None:
    net.requires_grad_(False)


def full(net: nn.Module) -> None:
    pass


def peft_style(net: Any) -> None:
    net.requires_grad_(False)
    chosen = blocks(len(net.blocks) // 3)
    for name in inject(net, select=chosen, wrap=lambda _, linear: PeftStyle(linear)):
        layer = net.get_submodule(name)
        layer.up.requires_grad_(True)
        layer.down.requires_grad_(True)
        layer.base.bias.requires_grad_(True)


def sora(net: nn.Module) -> None:
    SoRA(rank=RANK)(net)


WAYS: dict[str, Callable[[Any], None]] = {
    "frozen": frozen,
    "full": full,
    "peft-style LoRA": peft_style,
    "SoRA": sora,
}


def step_flops(way: str, stack: Stack) -> int:
    """Return the products of a step, per image."""
    if way == "frozen":
        return stack.forward()
    if way == "full":
        return stack.full()
    return stack.low_rank(RANK, stack.depth // 3, groups=3 if way == "SoRA" else 1)


def build(work: Work) -> Any:
    torch.manual_seed(0)
    net = timm.create_model(
        work.network,
        depth=work.depth,
        patch_size=PATCH,
        img_size=work.side,
        num_classes=0,
        global_pool="",
    )
    for part in ("norm", "fc_norm"):  # behind the last block
        getattr(net, part).requires_grad_(False)
    return net.to(work.device).train()


def measure(net: Any, work: Work, way: str, *, compiled: bool, batch: int) -> Cell:
    cuda = work.device == "cuda"
    images = torch.randn(batch, 3, work.side, work.side, device=work.device)
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=cuda) if trained else None

    def step() -> None:
        with (
            torch.set_grad_enabled(bool(trained)),
            torch.autocast(work.device, torch.bfloat16),
        ):
            loss = net.forward_features(images).float().square().mean()
        if optimizer is not None:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    seconds = []
    for index in range(3 + work.steps):
        if cuda and index == 3:
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        step()
        if cuda:
            torch.cuda.synchronize()
        if index >= 3:
            seconds.append(time.perf_counter() - start)
    rate = batch / statistics.median(seconds)
    tokens = (work.side // PATCH) ** 2
    stack = Stack(net.embed_dim, len(net.blocks), tokens, PATCH)
    return Cell(
        way,
        compiled,
        batch,
        images_per_second=rate,
        peak_gigabytes=torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
        tflops=rate * step_flops(way, stack) / 1e12,
    )


def cells_of(way: str, work: Work, keep: Callable[[Cell], None]) -> None:
    """Measure one way in all its cells and hand each to `keep`."""
    net = build(work)
    WAYS[way](net)
    net.to(work.device)
    for compiled in (False, True):
        if compiled:
            for block in net.blocks:
                block.compile(backend=work.backend)
        for batch in work.batches:
            try:
                cell = measure(net, work, way, compiled=compiled, batch=batch)
            except RuntimeError as error:  # out of memory is one
                lines = str(error).splitlines() or [""]
                cell = Cell(way, compiled, batch, failure=f"{type(error).__name__}: {lines[0]}")
            net.zero_grad()
            if work.device == "cuda":
                torch.cuda.empty_cache()
            keep(cell)


def machine(work: Work, peak: float | None) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if work.device == "cuda" else "CPU"
    if peak is None:
        peak = next((value for part, value in PEAKS.items() if part in name), None)
    return {
        "device": name,
        "peak TFLOPS": peak,
        "torch": torch.__version__,
        "CUDA": torch.version.cuda,
        "timm": timm.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def to_markdown(work: Work, facts: dict[str, Any], cells: list[Cell]) -> str:
    head = ["way", "compiled", "batch", "images/s", "peak GB", "TFLOPS", "of the peak"]
    lines = [
        f"{work.network}, {work.side} pixels, bf16 autocast, rank {RANK}, median of {work.steps} "
        "steps; " + ", ".join(f"{name} {value}" for name, value in facts.items()),
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for cell in cells:
        row = [cell.way, "yes" if cell.compiled else "no", str(cell.batch)]
        if cell.failure:
            row += [cell.failure[:60].replace("|", "/"), "", "", ""]
        else:
            share = None
            if cell.tflops is not None and facts["peak TFLOPS"]:
                share = 100 * cell.tflops / facts["peak TFLOPS"]
            numbers = (cell.images_per_second, cell.peak_gigabytes, cell.tflops)
            row += ["" if n is None else f"{n:.2f}" for n in numbers]
            row.append("" if share is None else f"{share:.1f} %")
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder")
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--steps", type=int, default=10, help="measured, of every cell")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU, dense bf16; known for some")
    parser.add_argument("--smoke", action="store_true", help="a tiny network on the CPU")
    args = parser.parse_args()
    if min(args.steps, *args.batches) < 1:
        parser.error("steps and batches are counted from 1")
    if not args.smoke and not torch.cuda.is_available():
        sys.exit("error: there is no GPU; --smoke tries the script on the CPU")
    batches = tuple(args.batches)
    work = Work("vit_large_patch14_dinov2", 24, 1024, batches, args.steps, "cuda", "inductor")
    if args.smoke:
        torch.set_num_threads(1)
        work = Work("vit_tiny_patch16_224", 3, 32, (1, 2), 1, "cpu", "eager")
    facts = machine(work, args.peak_tflops)
    args.output.mkdir(parents=True, exist_ok=True)
    cells: list[Cell] = []

    def keep(cell: Cell) -> None:
        cells.append(cell)
        text = to_markdown(work, facts, cells)
        (args.output / "report.md").write_text(text, encoding="utf-8")
        plain = {"machine": facts, "work": asdict(work), "cells": [asdict(one) for one in cells]}
        (args.output / "report.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
        print(text.splitlines()[-1], flush=True)

    for way in args.ways:
        cells_of(way, work, keep)
        torch.compiler.reset()


if __name__ == "__main__":
    main()
