"""A small transformer for the tests of this folder, and how it is adapted."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from sora_det.adapt import DoRA, LoRA, MiLoRA, PiSSA, RsLoRA, SoRA, adapter_parameters
from sora_det.adapt.record import ATTRIBUTE

WIDTH = 16
LOW_RANK: list[type[LoRA]] = [LoRA, RsLoRA, DoRA, SoRA, MiLoRA, PiSSA]
low_rank_recipes = pytest.mark.parametrize("recipe", LOW_RANK)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # (batch, token, channel) each
        return self.proj(torch.softmax(q @ k.mT, dim=-1) @ v)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = Attention()
        self.mlp = nn.Sequential()
        self.mlp.fc1, self.mlp.act = nn.Linear(WIDTH, 2 * WIDTH), nn.GELU()
        self.mlp.fc2 = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TinyViT(nn.Module):
    """Blocks of qkv (48, 16), proj (16, 16), fc1 (32, 16) and, without bias, fc2 (16, 32)."""

    def __init__(self, depth: int = 6) -> None:
        super().__init__()
        self.embed = nn.Linear(4, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(depth)))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, token, 4) to (batch, 3)."""
        return self.head(self.blocks(self.embed(x)).mean(1))


def tiny_vit(depth: int = 6, seed: int = 0) -> TinyViT:
    """The same weights for the same seed, without a draw from the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TinyViT(depth).eval()


@torch.no_grad()
def moved(net: nn.Module) -> nn.Module:
    """Change the low-rank terms of `net`, as training would, and return it."""
    generator = torch.Generator().manual_seed(0)
    for _, factor in adapter_parameters(net):
        factor.add_(torch.randn(factor.shape, generator=generator), alpha=0.1)
    return net


def tokens() -> Tensor:
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))


@contextmanager
def left_alone(net: nn.Module) -> Iterator[None]:
    """Assert that values, what trains, types and the record of `net` are as they were."""

    def state() -> tuple[object, ...]:
        trained = {n: (p.requires_grad, id(p)) for n, p in net.named_parameters()}
        types = {n: (type(m), m.training) for n, m in net.named_modules(remove_duplicate=False)}
        return trained, types, vars(net).get(ATTRIBUTE)

    before, values = state(), copy.deepcopy(net.state_dict())
    yield
    assert state() == before
    after = net.state_dict()
    assert list(after) == list(values)
    for name, value in values.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0, equal_nan=True, msg=name)
