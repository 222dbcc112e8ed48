"""Masked prediction across weathers: what is hidden, what is to be predicted, and by what."""

import math

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from sora_det.backbones.timm_vit import embed
from sora_det.backbones.weights import TimmViT

CELL = 4  # pixels, each way: of a histogram of gradients and of a mean colour
BINS = 9  # directions of a gradient, of 180 degrees
HIDDEN_TOGETHER = 2  # patches, each way


class Predictor(nn.Module):
    """Predict targets at seen and hidden patches from the tokens of the seen ones.

    Args:
        width: channels of the ViT.
        grid: patches of an image, each way.
        out: numbers to predict at a patch.
    """

    position: Tensor  # (grid * grid, channels)

    def __init__(self, width: int, grid: int, out: int, *, channels: int = 128, depth: int = 2):
        super().__init__()
        self.enter = nn.Linear(width, channels)
        self.hidden = nn.Parameter(torch.zeros(channels))
        self.register_buffer("position", waves(grid, channels))
        self.blocks = nn.Sequential(*(Block(channels, channels // 32) for _ in range(depth)))
        self.norm = nn.LayerNorm(channels)
        self.leave = nn.Linear(channels, out)

    def forward(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Return (batch, place, out) for `places` (batch, place), the seen ones first.

        `tokens` is (batch, 1 + seen, width), the class token in front.
        """
        x = self.enter(tokens)
        hidden = self.hidden.expand(len(x), places.shape[1] + 1 - x.shape[1], -1)
        x = torch.cat([x, hidden.to(x.dtype)], dim=1)
        place = F.pad(self.position[places], (0, 0, 1, 0))  # the class token has none
        return self.leave(self.norm(self.blocks(x + place))[:, 1:])


def waves(grid: int, channels: int) -> Tensor:
    """Return sines and cosines of rows and of columns, (grid * grid, channels)."""
    rate = torch.exp(-math.log(100.0) * torch.arange(channels // 4) / (channels // 4))
    line = torch.arange(grid)[:, None] * rate  # (grid, channels / 4)
    line = torch.cat([line.sin(), line.cos()], dim=1)
    rows, columns = line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def hide(batch: int, grid: int, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return places (batch, count) of the patches that are seen, and of as many hidden ones.

    Squares of HIDDEN_TOGETHER x HIDDEN_TOGETHER patches are seen or hidden together; `share` of the
    squares are seen.
    """
    across = grid // HIDDEN_TOGETHER
    count = round(share * across**2)
    order = torch.rand(batch, across**2, generator=generator).argsort(dim=1)[:, : 2 * count]
    corner = (order // across * grid + order % across) * HIDDEN_TOGETHER
    step = torch.arange(HIDDEN_TOGETHER)
    square = (step[:, None] * grid + step).flatten()  # places of a square's patches from its first
    places = (corner[..., None] + square).flatten(1)
    return places.chunk(2, dim=1)  # type: ignore[return-value]  # two, as the number is even


def encode(net: TimmViT, images: Tensor, seen: Tensor) -> Tensor:
    """Return the tokens of the seen patches alone, (batch, 1 + seen, channel), class token first.

    `images` are in 0..1.
    """
    x = embed(net, images * 2 - 1)
    first, patches = x[:, :1], x[:, 1:]
    patches = patches.gather(1, seen[..., None].expand(-1, -1, patches.shape[2]))
    return net.norm(net.blocks(torch.cat([first, patches], dim=1)))


def targets(clear: Tensor, patch: int) -> Tensor:
    """Return what is predicted of clear images (batch, 3, height, width): (batch, patch, number).

    Colours, averaged over cells and normalised within a patch, and a histogram of gradient
    directions for every cell, normalised within a patch.
    """
    colour = per_patch(F.avg_pool2d(clear, CELL // 2), patch // (CELL // 2))
    spread = (colour.var(dim=2, keepdim=True) + 0.02**2).sqrt()
    colour = (colour - colour.mean(dim=2, keepdim=True)) / spread
    grey = F.pad(clear.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
    down = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    strength = (across**2 + down**2).sqrt()
    angle = torch.atan2(down, across) / math.pi % 1.0
    bins = F.one_hot((angle * BINS).long().clamp_max(BINS - 1)[:, 0], BINS).movedim(-1, 1)
    histogram = per_patch(F.avg_pool2d(bins * strength, CELL), patch // CELL)
    length = histogram.norm(dim=2, keepdim=True) + 0.02
    scale = math.sqrt(histogram.shape[2])  # so that both kinds of targets weigh about the same
    return torch.cat([colour, histogram / length * scale], dim=2)


def per_patch(maps: Tensor, size: int) -> Tensor:
    """Cut (batch, channel, height, width) into patches: (batch, patch, channel * size * size)."""
    return F.unfold(maps, size, stride=size).transpose(1, 2)
