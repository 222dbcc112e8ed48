"""Multi-scale deformable attention (arXiv 2010.04159, equation 3) in plain PyTorch."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shapes = Sequence[tuple[int, int]]  # rows and columns of every level


def sample(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Sum bilinear samples of several maps; what lies outside a map is 0.

    Args:
        value: (batch, token, head, channel), the maps one after the other, row by row.
        shapes: of the maps.
        locations: (batch, query, head, level, point, 2), x and y as fractions of a map's width
            and height.
        weights: (batch, query, head, level, point).

    Returns:
        (batch, query, head * channel)
    """
    batch, queries, heads = locations.shape[:3]
    total: Tensor | None = None
    for level, part in enumerate(value.split([rows * columns for rows, columns in shapes], dim=1)):
        maps = part.permute(0, 2, 3, 1).reshape(batch * heads, -1, *shapes[level])
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        found = F.grid_sample(maps, grid, align_corners=False)  # (batch * head, channel, q, point)
        share = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)  # (batch * head, q, point)
        added = torch.einsum("ncqp,nqp->ncq", found, share)
        total = added if total is None else total + added
    if total is None:
        raise ValueError("deformable attention needs at least one map")
    return total.reshape(batch, -1, queries).transpose(1, 2)


class DeformableAttention(nn.Module):
    """Every query looks at a few points of every level, which it chooses around its reference.

    Args:
        channels: of queries and tokens, a multiple of `heads`.
        heads, levels, points: each head takes `points` samples of each level.
    """

    def __init__(self, channels: int, *, heads: int = 8, levels: int = 4, points: int = 4) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels must be a multiple of the {heads} heads, got {channels}")
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Start with head h looking 1, 2, ... cells away into direction h, all alike."""
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)  # onto the unit square
        reach = torch.arange(1, self.points + 1, dtype=torch.float32)
        start = direction[:, None, None] * reach[:, None]  # (head, 1, point, 2)
        start = start.expand(-1, self.levels, -1, -1)
        self.sampling_offsets.bias.copy_(start.flatten())

    def forward(
        self,
        query: Tensor,
        tokens: Tensor,
        references: Tensor,
        shapes: Shapes,
        padding: Tensor | None = None,
    ) -> Tensor:
        """Attend to the maps in `tokens`.

        Args:
            query: (batch, query, channel), its position added.
            tokens: (batch, token, channel), the maps one after the other.
            references: (batch, query, level, 2), points x, y as fractions of each level's map; or
                (batch, query, level, 4), boxes with width and height, whose size scales the
                offsets.
            shapes: rows and columns of every level.
            padding: (batch, token) bool, True for tokens to be taken as 0.

        Returns:
            (batch, query, channel)
        """
        value = self.value_proj(tokens)
        if padding is not None:
            value = value.masked_fill(padding[..., None], 0)
        offsets = self.sampling_offsets(query).float()
        scores = self.attention_weights(query).float().unflatten(-1, (self.heads, -1))
        # Half precision cannot tell apart neighbouring cells of a large map.
        with torch.autocast(query.device.type, enabled=False):
            offsets = offsets.unflatten(-1, (self.heads, self.levels, self.points, 2))
            weights = scores.softmax(-1).unflatten(-1, (self.levels, self.points))
            locations = self._locations(references.float(), offsets, shapes)
            found = sample(
                value.float().unflatten(-1, (self.heads, -1)), shapes, locations, weights
            )
        return self.output_proj(found.to(value.dtype))

    def _locations(self, references: Tensor, offsets: Tensor, shapes: Shapes) -> Tensor:
        """Return where to sample, (batch, query, head, level, point, 2)."""
        centre = references[:, :, None, :, None, :2]
        if references.shape[-1] == 4:
            half = references[:, :, None, :, None, 2:] / 2
            return centre + offsets / self.points * half
        cells = torch.tensor([(columns, rows) for rows, columns in shapes], device=offsets.device)
        return centre + offsets / cells[:, None]  # (level, 1, 2)
