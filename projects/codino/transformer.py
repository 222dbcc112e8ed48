"""Encoder over the maps of a pyramid, and decoder of boxes that refine themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .boxes import inverse_sigmoid
from .deformable import DeformableAttention
from .positions import sine_coordinates, sine_map


@dataclass(frozen=True)
class Tokens:
    """The maps of a pyramid as one sequence.

    Attributes:
        values: (batch, token, channel), level after level, row by row.
        padding: (batch, token) bool, True outside the image.
        shapes: rows and columns of every level.
        ratios: (batch, level, 2), the image's share of each map's width and height.
    """

    values: Tensor
    padding: Tensor
    shapes: tuple[tuple[int, int], ...]
    ratios: Tensor

    def level_sizes(self) -> list[int]:
        return [rows * columns for rows, columns in self.shapes]

    def maps(self) -> list[Tensor]:
        """Return the sequence as maps (batch, channel, rows, columns)."""
        parts = self.values.split(self.level_sizes(), dim=1)
        return [
            part.transpose(1, 2).unflatten(2, shape)
            for part, shape in zip(parts, self.shapes, strict=True)
        ]


def tokens_of(maps: Sequence[Tensor], padding: Tensor) -> Tokens:
    """Put maps in a row.

    Args:
        maps: (batch, channel, rows, columns) each, of the same image area.
        padding: (batch, height, width) bool at any resolution, True outside the image.
    """
    masks = [_resize(padding, tuple(x.shape[-2:])) for x in maps]
    ratios = [torch.stack([_share(~m[:, 0]), _share(~m[:, :, 0])], dim=-1) for m in masks]
    return Tokens(
        values=torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1),
        padding=torch.cat([m.flatten(1) for m in masks], dim=1),
        shapes=tuple((x.shape[-2], x.shape[-1]) for x in maps),
        ratios=torch.stack(ratios, dim=1),
    )


def _resize(padding: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize a mask to the nearest cells, the first of which is always image."""
    return F.interpolate(padding[:, None].float(), size=size).squeeze(1) > 0


def _share(inside: Tensor) -> Tensor:
    return inside.float().mean(-1)


def positions_of(tokens: Tokens, levels: Tensor, *, temperature: float) -> Tensor:
    """Return the embedding of every token's place: sines plus its level's vector.

    Args:
        levels: (level, channel).

    Returns:
        (batch, token, channel)
    """
    parts = tokens.padding.split(tokens.level_sizes(), dim=1)
    return torch.cat(
        [
            sine_map(mask.unflatten(1, shape), levels.shape[1], temperature=temperature) + vector
            for mask, shape, vector in zip(parts, tokens.shapes, levels, strict=True)
        ],
        dim=1,
    )


def cell_centres(tokens: Tokens) -> Tensor:
    """Return every token's own place x, y as a fraction of the image: (batch, token, 2)."""
    parts = []
    for level, (rows, columns) in enumerate(tokens.shapes):
        y = (torch.arange(rows, device=tokens.ratios.device) + 0.5) / rows
        x = (torch.arange(columns, device=tokens.ratios.device) + 0.5) / columns
        grid = torch.stack(torch.broadcast_tensors(x[None], y[:, None]), dim=-1).flatten(0, 1)
        parts.append(grid / tokens.ratios[:, None, level])  # (batch, token of the level, 2)
    return torch.cat(parts, dim=1)


class FeedForward(nn.Sequential):
    """Two linear layers with a ReLU between them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))


class EncoderLayer(nn.Module):
    """Deformable attention among tokens and a feed-forward net, each with residual and norm."""

    def __init__(self, channels: int, *, heads: int, levels: int, points: int, hidden: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(channels, heads=heads, levels=levels, points=points)
        self.attention_norm = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels, hidden)
        self.feed_forward_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, position: Tensor, references: Tensor, tokens: Tokens) -> Tensor:
        found = self.attention(x + position, x, references, tokens.shapes, tokens.padding)
        x = self.attention_norm(x + found)
        return self.feed_forward_norm(x + self.feed_forward(x))


class Encoder(nn.Module):
    """A stack of encoder layers.

    Args:
        layers: number of them.
        checkpointed: how many of the first layers compute their activations again in the backward
            pass, which saves most of the encoder's memory for a third more of its time.
    """

    def __init__(
        self,
        channels: int,
        *,
        layers: int = 6,
        heads: int = 8,
        levels: int = 5,
        points: int = 4,
        hidden: int = 2048,
        checkpointed: int = 0,
    ) -> None:
        super().__init__()
        self.checkpointed = checkpointed
        self.layers = nn.ModuleList(
            EncoderLayer(channels, heads=heads, levels=levels, points=points, hidden=hidden)
            for _ in range(layers)
        )

    def forward(self, tokens: Tokens, position: Tensor) -> Tensor:
        """Return the encoded tokens, (batch, token, channel)."""
        # A cell of the image lies at the same fraction of every level's image part.
        references = cell_centres(tokens)[:, :, None] * tokens.ratios[:, None]
        x = tokens.values
        for index, layer in enumerate(self.layers):
            if index < self.checkpointed and torch.is_grad_enabled():
                x = checkpoint(layer, x, position, references, tokens, use_reentrant=False)
            else:
                x = layer(x, position, references, tokens)
        return x


class DecoderLayer(nn.Module):
    """Attention among queries, deformable attention to the tokens, and a feed-forward net."""

    def __init__(self, channels: int, *, heads: int, levels: int, points: int, hidden: int) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.self_norm = nn.LayerNorm(channels)
        self.attention = DeformableAttention(channels, heads=heads, levels=levels, points=points)
        self.attention_norm = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels, hidden)
        self.feed_forward_norm = nn.LayerNorm(channels)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        references: Tensor,
        tokens: Tokens,
        blocked: Tensor | None,
    ) -> Tensor:
        key = x + position
        found = self.self_attention(key, key, x, attn_mask=blocked, need_weights=False)[0]
        x = self.self_norm(x + found)
        found = self.attention(
            x + position, tokens.values, references, tokens.shapes, tokens.padding
        )
        x = self.attention_norm(x + found)
        return self.feed_forward_norm(x + self.feed_forward(x))


class Decoder(nn.Module):
    """Queries whose boxes are refined after every layer.

    Args:
        look_forward_twice: DINO's way: the loss of a layer also reaches the refinement of the
            layer before. Without it, every layer takes its boxes as given.
    """

    def __init__(
        self,
        channels: int,
        *,
        layers: int = 6,
        heads: int = 8,
        levels: int = 5,
        points: int = 4,
        hidden: int = 2048,
        look_forward_twice: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.look_forward_twice = channels, look_forward_twice
        self.layers = nn.ModuleList(
            DecoderLayer(channels, heads=heads, levels=levels, points=points, hidden=hidden)
            for _ in range(layers)
        )
        self.position = nn.Sequential(
            nn.Linear(2 * channels, channels), nn.ReLU(), nn.Linear(channels, channels)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(
        self,
        x: Tensor,
        boxes: Tensor,
        tokens: Tokens,
        branches: nn.ModuleList,
        blocked: Tensor | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Decode queries.

        Args:
            x: (batch, query, channel), the queries' content.
            boxes: (batch, query, 4), where they start: centre and size as fractions of the image.
            tokens: the encoder's output.
            branches: one per layer, maps (..., channel) to changes of a box's logits (..., 4).
            blocked: (query, query) bool, True where the first may not attend to the second.

        Returns:
            For every layer the normed states (batch, query, channel), and the boxes that its
            changes are to be added to.
        """
        found = []
        given = boxes
        scale = tokens.ratios.repeat(1, 1, 2)[:, None]  # (batch, 1, level, 4)
        for layer, branch in zip(self.layers, branches, strict=False):
            boxes = boxes.detach()
            references = boxes[:, :, None] * scale
            place = references[:, :, 0, [1, 0, 2, 3]]  # y, x, width, height on the finest map
            waves = sine_coordinates(place, self.channels // 2).to(x.dtype)
            x = layer(x, self.position(waves), references, tokens, blocked)
            found.append((self.norm(x), given))
            boxes = (branch(x).float() + inverse_sigmoid(boxes, eps=1e-3)).sigmoid()
            given = boxes if self.look_forward_twice else boxes.detach()
        return found
