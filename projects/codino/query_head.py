"""The head with object queries: encoder, choice of queries, decoder, losses."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .boxes import inverse_sigmoid
from .deformable import DeformableAttention
from .denoising import Denoising, noisy_queries
from .losses import LossWeights, prediction_losses
from .matching import Assigned, Targets, match
from .positions import sine_coordinates
from .transformer import Decoder, Encoder, Tokens, cell_centres, positions_of, tokens_of

PRIOR = -4.59511985  # logit of 1 %, at which all classes start


class Predictions(NamedTuple):
    """Of one layer."""

    logits: Tensor  # (batch, query, class)
    boxes: Tensor  # (batch, query, 4) float32, centre and size as fractions of the image

    def part(self, start: int, end: int | None = None) -> "Predictions":
        return Predictions(self.logits[:, start:end], self.boxes[:, start:end])


class QueryHead(nn.Module):
    """Predict a fixed number of boxes from the maps of a pyramid.

    `denoising=None` and `auxiliary=0` leave plain two-stage Deformable DETR with DINO's queries;
    `two_stage=False` learns where queries start and `look_forward_twice=False` makes it the
    one-stage Deformable DETR with box refinement.

    Args:
        num_classes: without background.
        channels: of the maps, a multiple of 4 and of `heads`.
        queries: boxes an image at most.
        levels: number of maps.
        encoder_layers, decoder_layers: depth of the transformer.
        heads, points, hidden: attention heads, samples a head takes of every level, and width
            of the feed-forward nets.
        temperature: of the position embedding of tokens.
        two_stage: queries start at the encoder's best boxes.
        look_forward_twice: see `Decoder`.
        denoising: see there; None does without.
        auxiliary: number of auxiliary heads whose positives come as queries.
        weights: of the losses.
        checkpointed: encoder layers that save memory, see `Encoder`.
        reference_compat: repeat two faults of the published code: layers start as PyTorch makes
            them and level vectors as zeros, and the class loss is divided by the positives of
            this process alone.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        channels: int = 256,
        queries: int = 900,
        levels: int = 5,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        heads: int = 8,
        points: int = 4,
        hidden: int = 2048,
        temperature: float = 20.0,
        two_stage: bool = True,
        look_forward_twice: bool = True,
        denoising: Denoising | None = None,
        auxiliary: int = 0,
        weights: LossWeights | None = None,
        checkpointed: int = 0,
        reference_compat: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("num_classes", num_classes), ("queries", queries), ("levels", levels)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if channels % 4:
            raise ValueError(f"channels must be a multiple of 4, got {channels}")
        self.num_classes, self.queries, self.temperature = num_classes, queries, temperature
        self.two_stage, self.denoising = two_stage, denoising
        self.weights, self.reference_compat = weights or LossWeights(), reference_compat
        sizes = {"heads": heads, "levels": levels, "points": points, "hidden": hidden}
        self.encoder = Encoder(channels, layers=encoder_layers, checkpointed=checkpointed, **sizes)
        self.decoder = Decoder(
            channels, layers=decoder_layers, look_forward_twice=look_forward_twice, **sizes
        )
        self.level_embed = nn.Parameter(torch.empty(levels, channels))
        self.query_embed = nn.Embedding(queries, channels)
        if two_stage:
            self.proposal = nn.Linear(channels, channels)
            self.proposal_norm = nn.LayerNorm(channels)
        else:
            self.start_embed = nn.Embedding(queries, 4)  # logits of centre and size
        if denoising is not None:
            self.label_embed = nn.Embedding(num_classes, channels)
        branches = decoder_layers + two_stage  # the last one is for the encoder's boxes
        self.class_branches = nn.ModuleList(
            nn.Linear(channels, num_classes) for _ in range(branches)
        )
        self.box_branches = nn.ModuleList(_box_branch(channels) for _ in range(branches))
        if auxiliary:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, channels, 3, stride=2, padding=1), _group_norm(channels)
            )
        self.auxiliary = nn.ModuleList(_position_net(channels) for _ in range(auxiliary))
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Set the weights to where training starts."""
        if self.reference_compat:
            nn.init.zeros_(self.level_embed)
        else:
            for part in (self.encoder, self.decoder):
                _xavier(part)
            nn.init.normal_(self.level_embed)
            if self.two_stage:
                _xavier(self.proposal)
        for module in self.class_branches.modules():
            if isinstance(module, nn.Linear):
                module.bias.fill_(PRIOR)
        for branch in self.box_branches:
            assert isinstance(branch, nn.Sequential)
            for parameter in branch[-1].parameters():  # no change of a box at first
                parameter.zero_()

    # --- from maps to predictions ---------------------------------------------------------

    def encode(self, maps: list[Tensor], padding: Tensor) -> Tokens:
        """Encode maps (batch, channel, rows, columns), from fine to coarse.

        Args:
            maps: one per level.
            padding: (batch, height, width) bool, True outside the image.
        """
        if len(maps) != len(self.level_embed):
            raise ValueError(f"the head is made for {len(self.level_embed)} maps, got {len(maps)}")
        tokens = tokens_of(maps, padding)
        position = positions_of(tokens, self.level_embed, temperature=self.temperature)
        values = self.encoder(tokens, position.to(tokens.values.dtype))
        return Tokens(values, tokens.padding, tokens.shapes, tokens.ratios)

    def memory_maps(self, tokens: Tokens) -> list[Tensor]:
        """Return the encoded maps and one of half the last one's resolution."""
        maps = tokens.maps()
        return [*maps, self.downsample(maps[-1])]

    def start(self, tokens: Tokens) -> tuple[Tensor, Tensor, Predictions | None]:
        """Return content and boxes of the queries, and the encoder's predictions if two-stage."""
        batch = len(tokens.values)
        if not self.two_stage:
            boxes = self.start_embed.weight.sigmoid().expand(batch, -1, -1)
            return self.query_embed.weight.expand(batch, -1, -1), boxes, None
        centres = cell_centres(tokens)
        size = torch.cat(
            [
                centres.new_full((count, 1), 0.05 * 2**level)
                for level, count in enumerate(tokens.level_sizes())
            ]
        )  # (token, 1): every token proposes a square around itself, larger on coarser maps
        squares = torch.cat([centres, size.expand(batch, -1, 2)], dim=-1)
        usable = ((squares > 0.01) & (squares < 0.99)).all(-1) & ~tokens.padding
        values = tokens.values.masked_fill(~usable[..., None], 0)
        values = self.proposal_norm(self.proposal(values))
        logits = self.class_branches[-1](values)
        count = min(self.queries, logits.shape[1])  # small images have fewer tokens
        best = logits.amax(-1).topk(count, dim=1).indices[..., None]  # (batch, query, 1)
        # An unusable token's box is (1, 1, 1, 1), whatever its branch says.
        anchors = (squares / (1 - squares)).log().masked_fill(~usable[..., None], torch.inf)
        changes = self.box_branches[-1](values.gather(1, best.expand(-1, -1, values.shape[-1])))
        boxes = (changes.float() + anchors.gather(1, best.expand(-1, -1, 4))).sigmoid()
        found = Predictions(logits.gather(1, best.expand(-1, -1, self.num_classes)), boxes)
        content = self.query_embed.weight[:count].expand(batch, -1, -1)
        if count < self.queries:  # or the rest would have no gradient at all
            content = content + 0 * self.query_embed.weight.sum()
        return content, boxes.detach(), found

    def decode(
        self, tokens: Tokens, content: Tensor, boxes: Tensor, blocked: Tensor | None = None
    ) -> list[Predictions]:
        """Return the predictions of every decoder layer; arguments as those of `Decoder`."""
        layers = self.decoder(content, boxes, tokens, self.box_branches, blocked)
        found = []
        for (states, given), classes, changes in zip(
            layers, self.class_branches, self.box_branches, strict=False
        ):
            places = changes(states).float() + inverse_sigmoid(given, eps=1e-3)
            found.append(Predictions(classes(states), places.sigmoid()))
        return found

    def predict(self, tokens: Tokens) -> Predictions:
        """Return the last layer's predictions."""
        content, boxes, _ = self.start(tokens)
        return self.decode(tokens, content, boxes)[-1]

    def decode_auxiliary(self, tokens: Tokens, boxes: Tensor, index: int) -> list[Predictions]:
        """Decode queries made of the boxes (batch, query, 4) that auxiliary head `index` uses."""
        boxes = inverse_sigmoid(boxes).sigmoid()
        waves = sine_coordinates(boxes, self.level_embed.shape[1] // 2).to(tokens.values.dtype)
        return self.decode(tokens, self.auxiliary[index](waves), boxes)

    # --- losses ---------------------------------------------------------------------------

    def losses(self, tokens: Tokens, targets: list[Targets]) -> dict[str, Tensor]:
        """Return the weighted losses of every layer, of the encoder's boxes and of denoising."""
        content, boxes, proposed = self.start(tokens)
        if self.denoising is None:
            return self.matched_losses(self.decode(tokens, content, boxes), proposed, targets)
        noisy = noisy_queries(self.denoising, targets, self.label_embed, others=content.shape[1])
        content = (
            content + 0 * self.label_embed.weight.sum()
        )  # used even by a batch without objects
        content = torch.cat([noisy.content.to(content.dtype), content], dim=1)
        layers = self.decode(tokens, content, torch.cat([noisy.boxes, boxes], dim=1), noisy.blocked)
        count = noisy.boxes.shape[1]
        losses = self.matched_losses([layer.part(count) for layer in layers], proposed, targets)
        # Also of no queries at all: all processes of a training have to take part in the sums.
        restored = [layer.part(0, count) for layer in layers]
        return losses | self.layer_losses(restored, noisy.assigned, "dn")

    def matched_losses(
        self, layers: list[Predictions], proposed: Predictions | None, targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Return the losses of predictions that are matched with the objects layer by layer."""
        losses: dict[str, Tensor] = {}
        for index, found in enumerate(layers):
            losses |= self._named(found, match(*found, targets), f"_{index}")
        if proposed is not None:
            losses |= self._named(proposed, match(*proposed, targets), "_enc")
        return losses

    def layer_losses(
        self, layers: list[Predictions], assigned: Assigned, name: str
    ) -> dict[str, Tensor]:
        """Return the losses of predictions whose targets are known."""
        losses: dict[str, Tensor] = {}
        for index, found in enumerate(layers):
            losses |= self._named(found, assigned, f"_{name}_{index}")
        return losses

    def _named(self, found: Predictions, assigned: Assigned, suffix: str) -> dict[str, Tensor]:
        parts = prediction_losses(
            found.logits,
            found.boxes,
            assigned,
            weights=self.weights,
            synchronised=not self.reference_compat,
        )
        return {f"loss_{kind}{suffix}": value for kind, value in parts.items()}


def _box_branch(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, channels),
        nn.ReLU(),
        nn.Linear(channels, channels),
        nn.ReLU(),
        nn.Linear(channels, 4),
    )


def _position_net(channels: int) -> nn.Sequential:
    """Turn the sines of a box into a query."""
    return nn.Sequential(nn.Linear(2 * channels, channels), nn.LayerNorm(channels))


def _group_norm(channels: int) -> nn.GroupNorm:
    """Return 32 groups where they fit, else one group to four channels."""
    return nn.GroupNorm(32 if channels % 32 == 0 else channels // 4, channels)


def _xavier(part: nn.Module) -> None:
    """Xavier-uniform start of every matrix but those that deformable attention starts itself."""
    for module in part.modules():
        if isinstance(module, nn.Linear | nn.MultiheadAttention):
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
                elif name.endswith("bias"):
                    nn.init.zeros_(parameter)
    for module in part.modules():
        if isinstance(module, DeformableAttention):
            module.reset()
