#!/usr/bin/env python
"""Pretrain the toy foundation backbone on drawn scenes in all weathers, without any label.

    python -m projects.toy_foundation.pretrain --output toy_foundation.safetensors

Equal settings give equal files on one machine, however often it was interrupted: started again with
the same --work folder, it goes on.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from sora_det.backbones import vit
from sora_det.backbones.weights import TimmViT
from sora_det.engine.files import write_whole

from .masked import Predictor, encode, hide, targets, waves
from .scenes import draw_all, look

PATCH, SIZE = 8, 192  # pixels
KEEP_EVERY = 100  # steps between checkpoints
SHAPE: dict[str, Any] = {"embed_dim": 192, "depth": 6, "num_heads": 3}


@dataclass(frozen=True)
class Settings:
    """All that decides the result.

    Attributes:
        scenes: drawn scenes.
        steps: of the optimiser.
        batch: images a step.
        rate: highest learning rate.
        seen: share of an image that the backbone sees, at most a half.
        seed: of scenes, first weights, crops, styles and masks.
    """

    scenes: int = 4000
    steps: int = 4800
    batch: int = 16
    rate: float = 1e-3
    seen: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.scenes, self.steps, self.batch) < 1 or self.seed < 0:
            raise ValueError(f"scenes, steps and batch start at 1 and seed at 0, got {self}")
        if not (0 < self.seen <= 0.5 and self.rate > 0):
            raise ValueError(f"seen must be in (0, 0.5] and rate above 0, got {self}")


class Batch(NamedTuple):
    """What one step looks at.

    Attributes:
        images: (batch, 3, SIZE, SIZE) RGB in 0..1.
        shown: (batch, seen), places of the patches that the backbone sees.
        places: (batch, seen and hidden) of all that is asked for, `shown` first.
        wanted: (batch, seen and hidden, number), the targets there.
    """

    images: Tensor
    shown: Tensor
    places: Tensor
    wanted: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help=".safetensors to write")
    parser.add_argument("--work", type=Path, default=Path("output/toy_foundation"),
                        help="folder of drawn scenes, checkpoint and losses")  # fmt: skip
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    args = vars(parser.parse_args())
    output, work, workers = (args.pop(name) for name in ("output", "work", "workers"))
    settings = Settings(**args)
    for folder in (work, output.parent):
        folder.mkdir(parents=True, exist_ok=True)
    file = work / f"scenes_{settings.seed}.npy"
    views = draw_all(file, settings.scenes, seed=settings.seed, workers=workers)
    net = pretrain(settings, views, work)
    data = save(half(net), metadata={"settings": json.dumps(asdict(settings))})
    write_whole(output, lambda file: file.write(data))


def pretrain(settings: Settings, views: NDArray[np.uint8], work: Path) -> TimmViT:
    """Return the pretrained backbone; a checkpoint and the losses stay in the folder `work`."""
    torch.set_num_threads(1)  # sums depend on the number of threads
    torch.use_deterministic_algorithms(True)
    net, predictor = build(settings.seed)
    both = nn.ModuleList([net, predictor])
    plain = [p for p in both.parameters() if p.dim() < 2]
    decayed = [p for p in both.parameters() if p.dim() >= 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
    )
    checkpoint = work / "checkpoint.pt"
    done = 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        if state["settings"] != asdict(settings):
            raise ValueError(f"{checkpoint} is of other settings, {state['settings']}: delete it")
        both.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
    begun = time.perf_counter()
    steps = range(done, settings.steps)
    for step, batch in zip(steps, ahead(partial(prepare, views, settings), steps), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * schedule(step, settings.steps)
        loss = step_loss(net, predictor, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), 3.0)
        optimizer.step()
        last = step + 1 == settings.steps
        if step % 20 == 0 or last:
            with (work / "losses.txt").open("a") as file:
                file.write(f"{step} {loss.item():.4f} {time.perf_counter() - begun:.0f}\n")
        if (step + 1) % KEEP_EVERY == 0 or last:
            state = {"model": both.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"step": step + 1, "settings": asdict(settings)}
            write_whole(checkpoint, partial(torch.save, state))
    return net


def build(seed: int) -> tuple[TimmViT, Predictor]:
    torch.manual_seed(seed)
    net = vit("vit_tiny_patch16_224", random_init=True, patch_size=PATCH, img_size=SIZE, **SHAPE)
    net.requires_grad_(True)  # the last norm too
    grid = SIZE // PATCH
    with torch.no_grad():
        net.pos_embed[0, 1:] = 0.3 * waves(grid, net.embed_dim)
    numbers = targets(torch.zeros(1, 3, SIZE, SIZE), PATCH).shape[2]
    return net, Predictor(net.embed_dim, grid, numbers)


def ahead(make: Callable[[int], Batch], steps: range) -> Iterator[Batch]:
    """Yield `make(step)` of every step; a second thread makes the next while one is used."""
    with ThreadPoolExecutor(1, initializer=partial(torch.set_num_threads, 1)) as pool:
        waiting: Future[Batch] | None = None
        for step in steps:
            batch, waiting = waiting, pool.submit(make, step)
            if batch is not None:
                yield batch.result()
        if waiting is not None:
            yield waiting.result()


def prepare(views: NDArray[np.uint8], settings: Settings, step: int) -> Batch:
    """Choose and cut what one step looks at; step and seed alone decide which."""
    rng = np.random.default_rng([settings.seed, 1, step])
    chosen = rng.integers(len(views), size=settings.batch)
    pairs = [look(views[index], rng, size=SIZE) for index in chosen]
    seen, clear = (
        torch.from_numpy(np.stack(p)).permute(0, 3, 1, 2) for p in zip(*pairs, strict=True)
    )
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    shown, hidden = hide(settings.batch, SIZE // PATCH, settings.seen, generator)
    places = torch.cat([shown, hidden], dim=1)
    wanted = targets(clear, PATCH)
    return Batch(
        seen, shown, places, wanted.gather(1, places[..., None].expand(-1, -1, wanted.shape[2]))
    )


def step_loss(net: TimmViT, predictor: Predictor, batch: Batch) -> Tensor:
    """Return the mean squared error at the patches asked for."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = predictor(encode(net, batch.images, batch.shown), batch.places)
    return (found.float() - batch.wanted).square().mean()


def schedule(step: int, steps: int) -> float:
    """Return the share of the highest rate: a twentieth to warm up, then half a cosine to 0."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm) / max(1, steps - warm))


def half(net: TimmViT) -> dict[str, Tensor]:
    return {name: value.detach().half().contiguous() for name, value in net.state_dict().items()}


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
