"""Writing and reading adapters, beside PEFT's own files and a checkpoint of the whole backbone."""

import copy
import tempfile
from pathlib import Path

import timm
import torch
from peft import PeftModel
from torch import Tensor, nn

from sora_det.adapt import (
    SoRA,
    adapted_layers,
    adapter_parameters,
    attach,
    export_peft,
    read_adapter,
    save_adapter,
)
from sora_det.adapt.record import digests

from .results import Result
from .timing import in_turns, ratio

RANK = 16


def adapter_io(repetitions: int, *, network: str = "vit_large_patch14_dinov2") -> Result:
    """Measure the files of SoRA on a ViT-L that is in memory already.

    Args:
        repetitions: of every way.
        network: timm's name; its weights are random, which changes neither sizes nor times.
    """
    base = timm.create_model(network, pretrained=False, num_classes=0).eval()
    adapted = SoRA(rank=RANK)(copy.deepcopy(base))
    names = list(adapted_layers(adapted))
    moved(adapted)
    fresh: list[nn.Module] = []

    def plain() -> None:
        fresh[:] = [copy.deepcopy(base)]

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        file, half, whole = (folder / name for name in ("fp32.st", "bf16.st", "whole.pth"))
        save_adapter(adapted, half, dtype=torch.bfloat16)
        export_peft(adapted, folder / "peft")
        timings = in_turns(
            {
                "write": lambda: save_adapter(adapted, file),
                "write whole backbone": lambda: torch.save(base.state_dict(), whole),
                "read and attach": lambda: attach(fresh[0], read_adapter(file), check=False),
                "read and attach, bf16": lambda: attach(fresh[0], read_adapter(half), check=False),
                "PeftModel.from_pretrained": lambda: PeftModel.from_pretrained(
                    fresh[0], folder / "peft"
                ),
                "read whole backbone": lambda: fresh[0].load_state_dict(
                    torch.load(whole, weights_only=True)
                ),
                "fingerprint": lambda: digests(base, names),
            },
            repetitions,
            before=plain,
        )
        sizes = {
            "adapter, fp32": size(file),
            "adapter, bf16": size(half),
            "PEFT folder, fp32": sum(size(f) for f in (folder / "peft").iterdir()),
            "whole backbone, fp32": size(whole),
        }
        difference = largest_difference(adapted, base, folder / "peft")
    by_name = {timing.name: timing for timing in timings}
    read = by_name["read and attach"]
    return Result(
        "adapter-io",
        f"SoRA of rank {RANK} on {network}, biases trained",
        timings,
        [
            ratio(by_name["write"], by_name["write whole backbone"]),
            ratio(read, by_name["read whole backbone"]),
            ratio(read, by_name["PeftModel.from_pretrained"]),
        ],
        {
            **{f"size of {name}": f"{count / 1e6:.1f} MB" for name, count in sizes.items()},
            "largest difference of PEFT's output, of the largest output": f"{difference:.1e}",
        },
    )


@torch.no_grad()
def moved(net: nn.Module) -> None:
    """Change what trains, as training would."""
    generator = torch.Generator().manual_seed(0)
    for _, factor in adapter_parameters(net):
        factor.add_(torch.randn(factor.shape, generator=generator), alpha=0.01)


@torch.no_grad()
def largest_difference(adapted: nn.Module, base: nn.Module, folder: Path) -> float:
    """Compare outputs on an image of noise, relative to the largest one."""
    sides = base.get_submodule("patch_embed").img_size
    assert isinstance(sides, tuple)
    image = torch.randn(1, 3, *sides, generator=torch.Generator().manual_seed(1))
    theirs = PeftModel.from_pretrained(copy.deepcopy(base), folder)
    wanted = adapted(image)
    found: Tensor = theirs(image)
    return float((found - wanted).abs().max() / wanted.abs().max())


def size(file: Path) -> int:
    return file.stat().st_size
