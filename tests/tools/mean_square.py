"""The smallest model that the trainer accepts, with a loss that is a plain mean over images."""

from typing import Any

import torch
from torch import Tensor, nn

Batch = list[dict[str, Any]]


class MeanSquare(nn.Module):
    """A loss that is a plain mean over the images of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[0.5, -1.0, 2.0]]))
            self.layer.bias.fill_(0.25)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        x = torch.stack([image["x"] for image in batch])  # (image, 3)
        y = torch.stack([image["y"] for image in batch])  # (image, 1)
        return {"loss": (self.layer(x) - y).square().mean()}


def batches(count: int, size: int, *, factor: float = 1.0) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        [
            {
                "x": factor * torch.randn(3, generator=generator),
                "y": torch.randn(1, generator=generator),
            }
            for _ in range(size)
        ]
        for _ in range(count)
    ]
