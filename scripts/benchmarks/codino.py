"""The training step of Co-DINO, beside Faster R-CNN on the same backbone, and its encoder alone.

On a CPU memory is told best with MALLOC_MMAP_THRESHOLD_=100000 in the environment: glibc then gives
back what is freed. It makes everything slower, so time without it.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.optim import AdamW

from projects.codino.transformer import Encoder, tokens_of
from sora_det.data.toy import CLASSES, toy_image
from sora_det.engine.config import load_config

from .memory import megabytes, peak_bytes
from .results import Result
from .timing import Timing, in_turns, ratio, step_clock

ROOT = Path(__file__).resolve().parents[2]
CODINO, RCNN = "projects/codino/configs/toy_sora_codino.py", "configs/toy_sora_frcnn.py"
DETECTORS: dict[str, tuple[str, ...]] = {
    "Co-DINO": (CODINO,),
    "Co-DINO, encoder recomputed": (CODINO, "model.head.checkpointed=6"),
    "Faster R-CNN": (RCNN,),
}
ENCODERS = {"encoder": 0, "encoder recomputed": 6}  # layers that are computed again
LEVELS = (4, 8, 16, 32, 64)  # pixels a cell of the encoder's maps


def codino(repetitions: int, *, images: int = 4, side: int = 192, encoded: int = 256) -> Result:
    """Measure steps of the toy configs, and of the paper's encoder.

    Args:
        repetitions: of every step.
        images: drawn ones a step of the toy configs.
        side: of the drawn images, pixels.
        encoded: side of the one image that the encoder's maps are of.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = [_drawn(index, side) for index in range(images)]
    detectors = {name: _detector(*given, device=device) for name, given in DETECTORS.items()}
    steps = {name: partial(_step, *made, batch) for name, made in detectors.items()}
    maps = [torch.randn(1, 256, encoded // n, encoded // n, device=device) for n in LEVELS]
    steps |= {
        name: partial(_encode, Encoder(256, checkpointed=layers).to(device), maps)
        for name, layers in ENCODERS.items()
    }
    timings: list[Timing] = in_turns(steps, repetitions, clock=step_clock())
    peaks = {f"highest memory of a step, {n}": megabytes(peak_bytes(s)) for n, s in steps.items()}
    by_name = {timing.name: timing for timing in timings}
    pairs = [("Co-DINO", "Faster R-CNN"), ("Co-DINO, encoder recomputed", "Co-DINO")]
    pairs += [("encoder recomputed", "encoder")]
    return Result(
        "codino",
        f"losses of {images} drawn images of {side} pixels, backward pass, AdamW, as the toy "
        f"configs have them; six encoder layers over the maps of an image of {encoded} pixels, "
        "forward and backward",
        timings,
        [ratio(by_name[one], by_name[other]) for one, other in pairs],
        peaks,
    )


def _drawn(index: int, side: int) -> dict[str, Any]:
    image, scene = toy_image("daytime-clear", "train", index, size=side)
    found = Instances((side, side))
    found.gt_boxes = Boxes(torch.tensor([thing.box for thing in scene.things]).reshape(-1, 4))
    found.gt_classes = torch.tensor([CLASSES.index(thing.label) for thing in scene.things]).long()
    return {"image": torch.from_numpy(image).permute(2, 0, 1), "instances": found}


def _detector(config: str, *overrides: str, device: torch.device) -> tuple[nn.Module, AdamW]:
    torch.manual_seed(0)
    file = f"benchmark.file={ROOT}/configs/benchmarks/diverse_weather.yaml"  # the same classes
    cfg = load_config(ROOT / config, [file, "adaptation.start_file=null", *overrides])
    model = instantiate(cfg.model).to(device).train()
    return model, AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)


def _step(model: nn.Module, optimizer: AdamW, batch: list[dict[str, Any]]) -> None:
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    optimizer.step()
    optimizer.zero_grad()


def _encode(encoder: Encoder, maps: list[Tensor]) -> None:
    side = maps[0].shape[-1]
    tokens = tokens_of(maps, torch.zeros(1, side, side, dtype=torch.bool, device=maps[0].device))
    encoder(tokens, torch.zeros_like(tokens.values)).sum().backward()
    encoder.zero_grad()
