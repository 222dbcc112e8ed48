import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sora_det.adapt import (
    Frozen,
    Full,
    LoRA,
    LowRankLinear,
    SoRA,
    blocks,
    every,
    inject,
    leaf,
    low_rank,
    merge,
    split_minor,
    trainable,
)
from sora_det.adapt.recipes import Recipe


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        return x + self.proj(torch.softmax(q @ k.mT, dim=-1) @ v)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 8)
        self.blocks = nn.Sequential(*(Block() for _ in range(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.proj(x))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))


def wrap(_name: str, linear: nn.Linear) -> nn.Module:
    return low_rank(linear, rank=2, start=split_minor)


def test_returns_the_names(net: Net) -> None:
    names = inject(net, select=every(blocks(1, 2), leaf("proj")), wrap=wrap)
    assert names == ["blocks.1.proj"]
    assert isinstance(net.blocks[1].proj, LowRankLinear)
    assert isinstance(net.proj, nn.Linear)


def test_leaf_is_no_suffix(net: Net) -> None:
    with pytest.raises(ValueError, match="no Linear layer is selected; this Net has: proj"):
        inject(net, select=leaf("v"), wrap=wrap)


def test_unknown_target_names_the_nearest(net: Net) -> None:
    with pytest.raises(ValueError, match=r"'qvk'.*did you mean 'qkv'"):
        SoRA(rank=2, targets=["proj", "qvk"])(net)


def test_adapting_twice(net: Net) -> None:
    SoRA(rank=2)(net)
    with pytest.raises(
        ValueError, match=r"adapted already by SoRA \(4 layers\): build it anew, or merge"
    ):
        SoRA(rank=2)(net)


def test_failure_leaves_the_net_alone(net: Net) -> None:
    before = copy.deepcopy(net.state_dict())
    net.blocks[2].proj.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"blocks\.2\.proj\.weight: .*not finite"):
        SoRA(rank=2)(net)
    assert list(net.state_dict()) == list(before)
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_shared_layer(net: Net) -> None:
    net.blocks[2].proj = net.blocks[1].proj
    with pytest.raises(ValueError, match=r"several names.*blocks\.1\.proj, blocks\.2\.proj"):
        SoRA(rank=2)(net)


def test_tied_weight(net: Net) -> None:
    net.blocks[2].proj.weight = net.blocks[1].proj.weight
    with pytest.raises(ValueError, match="tied"):
        SoRA(rank=2)(net)


@pytest.mark.parametrize("start_block", [-1, 3])
def test_start_block_out_of_range(net: Net, start_block: int) -> None:
    with pytest.raises(ValueError, match=r"start_block must be 0\.\.2 for 3 blocks"):
        SoRA(rank=2, start_block=start_block)(net)


def test_net_without_blocks() -> None:
    with pytest.raises(ValueError, match="has no blocks"):
        SoRA(rank=2)(nn.Sequential(nn.Linear(4, 4)))


def test_what_trains(net: Net) -> None:
    SoRA(rank=2)(net)  # a third of three blocks stays frozen
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    kinds = ("up", "down", "bias")
    assert trained == {
        f"blocks.{i}.{m}.{k}" for i in (1, 2) for m in ("qkv", "proj") for k in kinds
    }
    counts = trainable(net)
    assert counts.layers == 4
    assert counts.adapter == 2 * (3 * 2 * (8 + 8) + 2 * (8 + 8))
    assert counts.bias == 2 * (24 + 8)
    assert counts.other == 0
    assert f"{counts.trained:,} of {counts.total:,}" in str(counts)


def test_biases_may_stay_frozen(net: Net) -> None:
    assert trainable(SoRA(rank=2, train_bias=False)(net)).bias == 0


@pytest.mark.parametrize("recipe", [SoRA(rank=2, alpha=4), LoRA(rank=2), Frozen(), Full()])
def test_output_is_unchanged_at_the_start(net: Net, x: torch.Tensor, recipe: Recipe) -> None:
    before = net(x)
    assert recipe(net) is net
    assert_close(net(x), before)


def test_frozen_and_full(net: Net) -> None:
    full = Full()(copy.deepcopy(net))
    assert trainable(full).trained == sum(p.numel() for p in net.parameters())
    assert trainable(Frozen()(net)).trained == 0


def train_a_little(net: nn.Module, x: torch.Tensor) -> None:
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("recipe", [SoRA(rank=2, alpha=4), LoRA(rank=2)])
def test_merge(net: Net, x: torch.Tensor, recipe: Recipe) -> None:
    recipe(net)
    train_a_little(net, x)
    before = copy.deepcopy(net.state_dict())
    plain = merge(net)
    assert not any(isinstance(module, LowRankLinear) for module in plain.modules())
    assert list(plain.state_dict()) == list(Net().state_dict())
    assert_close(plain(x), net(x))
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_merged_copy_shares_nothing(net: Net) -> None:
    SoRA(rank=2)(net)
    plain = merge(net)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.fill_(7.0)
    assert all((parameter != 7.0).any() for parameter in net.parameters())


def test_only_the_chosen_move(net: Net, x: torch.Tensor) -> None:
    SoRA(rank=2)(net)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    train_a_little(net, x)
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


def test_modes_never_edit_weights(net: Net) -> None:
    SoRA(rank=2)(net)
    before = copy.deepcopy(net.state_dict())
    for mode in (False, False, True, True, False):
        assert net.train(mode) is net
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name
