"""The arithmetic of a training step of a plain ViT, products alone, per image."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stack:
    """The blocks of a plain ViT without class token: MLPs of four times the width, a fused qkv."""

    width: int
    depth: int
    tokens: int
    patch: int  # pixels, each way

    @property
    def linear(self) -> int:
        """Of a block's Linear layers, forward."""
        return 24 * self.tokens * self.width**2

    @property
    def attention(self) -> int:
        """Of a block's scores and sums, forward."""
        return 4 * self.tokens**2 * self.width

    @property
    def patches(self) -> int:
        return 2 * self.tokens * 3 * self.patch**2 * self.width

    def forward(self) -> int:
        return self.patches + self.depth * (self.linear + self.attention)

    def full(self) -> int:
        """Forward and backward pass where all is trained.

        The latter takes as much again for the inputs of the Linear layers, as much for their
        weights, and twice the attention; images have no gradient.
        """
        return 2 * self.patches + self.depth * 3 * (self.linear + self.attention)

    def low_rank(self, rank: int, first: int, *, groups: int = 3) -> int:
        """Forward and backward pass with low-rank terms in the Linear layers from block `first` on.

        Args:
            rank: of every term.
            first: block; those before have no backward pass.
            groups: terms of a fused qkv.
        """
        # in + out of every term of qkv, proj, fc1 and fc2; three products with each factor
        thin = 6 * self.tokens * rank * (groups + 15) * self.width
        # the first adapted layer's input has no gradient
        unused = 2 * self.tokens * self.width * (3 * self.width + groups * rank)
        late = (self.depth - first) * (2 * self.linear + thin + 3 * self.attention)
        return self.patches + first * (self.linear + self.attention) + late - unused
