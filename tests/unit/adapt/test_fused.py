"""The fused low-rank layer: the gradients of the plain formula, with little kept and copied."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from sora_det.adapt import DoRALinear, LowRankLinear, SoRA, low_rank, start_at_zero
from tests.unit.adapt.adapt_nets import tiny_vit, tokens

# No two tensors that a step makes have the same count of numbers.
IN, OUT, RANK, TOKENS = 8, 12, 2, 10
groups = pytest.mark.parametrize("groups", [1, 3])


def layer(groups: int = 1, *, bias: bool = True, train_bias: bool = True) -> LowRankLinear:
    """A layer in float64 whose low-rank term has moved, with a scale other than 1."""
    made = low_rank(
        nn.Linear(IN, OUT, bias=bias).double(),
        rank=RANK,
        alpha=3.0,
        start=start_at_zero,
        groups=groups,
        train_bias=train_bias,
    )
    nn.init.normal_(made.up)
    return made


def batch(*, grad: bool = True) -> Tensor:
    return torch.randn(2, TOKENS // 2, IN, dtype=torch.float64, requires_grad=grad)


def plain(layer: LowRankLinear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def gradients(layer: nn.Module, y: Tensor, x: Tensor, grad: Tensor) -> dict[str, Tensor | None]:
    """Return output and gradients, and forget the gradients."""
    y.backward(grad)
    found = {"y": y.detach(), "x": x.grad}
    found |= {name: parameter.grad for name, parameter in layer.named_parameters()}
    x.grad = None
    layer.zero_grad()
    return found


@groups
@pytest.mark.parametrize(
    ("bias", "train_bias", "needs_input"),
    [(True, True, True), (True, False, True), (False, False, True), (True, True, False)],
)
def test_same_as_the_plain_formula(
    groups: int, bias: bool, train_bias: bool, needs_input: bool
) -> None:
    one, x = layer(groups, bias=bias, train_bias=train_bias), batch(grad=needs_input)
    grad = torch.randn(2, TOKENS // 2, OUT, dtype=torch.float64)
    want = gradients(one, plain(one, x), x, grad)
    found = gradients(one, one(x), x, grad)
    assert found.keys() == want.keys()
    assert (found["x"] is not None) == needs_input
    assert found["residual"] is None
    for name, value in want.items():
        assert_close(found[name], value, msg=name)


@groups
def test_gradients_can_be_differentiated(groups: int) -> None:
    one = layer(groups)
    values = batch(), one.up, one.down, one.bias

    def output(x: Tensor, up: Tensor, down: Tensor, bias: Tensor) -> Tensor:
        parameters = {"up": up, "down": down, "bias": bias}
        return torch.func.functional_call(one, parameters, (x,))

    assert torch.autograd.gradcheck(output, values)
    assert torch.autograd.gradgradcheck(output, values)


def test_inputs_and_gradients_that_are_no_rows() -> None:
    one = layer()
    x = torch.randn(IN, TOKENS, dtype=torch.float64, requires_grad=True)
    grad = torch.ones((), dtype=torch.float64).expand(TOKENS, OUT)
    want = gradients(one, plain(one, x.t()), x, grad)
    for name, value in gradients(one, one(x.t()), x, grad).items():
        assert_close(value, want[name], msg=name)


def test_output_may_be_changed_in_place() -> None:
    one, x = layer(), batch()
    want = gradients(one, plain(one, x).relu(), x, torch.ones(2, 5, OUT))
    found = gradients(one, F.relu(one(x), inplace=True), x, torch.ones(2, 5, OUT))
    assert_close(found["down"], want["down"])


@pytest.mark.parametrize("trained", ["residual", "nothing"])
def test_residual_that_trains_and_factors_that_do_not(trained: str) -> None:
    one, x = layer().requires_grad_(False), batch()
    one.residual.requires_grad_(trained == "residual")
    want = gradients(one, plain(one, x), x, torch.ones(2, 5, OUT))
    for name, value in gradients(one, one(x), x, torch.ones(2, 5, OUT)).items():
        assert_close(value, want[name], msg=name)


@contextmanager
def kept(net: nn.Module) -> Iterator[dict[int, Tensor]]:
    """Gather what a forward pass keeps for the backward pass beside the parameters of `net`.

    By the address of the memory, so that views of one tensor count once.
    """
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    found: dict[int, Tensor] = {}

    def pack(value: Tensor) -> Tensor:
        if (address := value.untyped_storage().data_ptr()) not in own:
            found[address] = value
        return value

    with saved_tensors_hooks(pack, lambda value: value):
        yield found


@groups
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_keeps_the_input_and_its_coefficients_alone(groups: int, kind: torch.dtype) -> None:
    one = layer(groups).to(kind).requires_grad_(True)
    one.residual.requires_grad_(False)
    x = batch().to(kind).detach().requires_grad_()
    with kept(one) as found:
        one(x)
    numbers = {id(x): IN, "t": groups * RANK}
    assert found.pop(x.untyped_storage().data_ptr()).numel() == TOKENS * numbers[id(x)]
    (coefficients,) = found.values()
    assert coefficients.untyped_storage().nbytes() == TOKENS * groups * RANK * kind.itemsize


def test_keeps_nothing_without_gradients() -> None:
    one = layer()
    with kept(one) as found, torch.no_grad():
        one(batch())
    assert not found


class Made(TorchDispatchMode):
    """Counts the tensors of a size that operations bring into being."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers, self.alive = numbers, []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        addresses = [value.untyped_storage().data_ptr() for value in self.alive]
        if isinstance(found, Tensor) and found.numel() == self.numbers:
            if found.untyped_storage().data_ptr() not in addresses:
                self.alive.append(found)  # and so no other can get its address
        return found


@groups
def test_makes_the_output_once_and_the_gradient_once(groups: int) -> None:
    one, x = layer(groups), batch()
    with Made(TOKENS * OUT) as forward:
        y = one(x)
    assert len(forward.alive) == 1
    grad = torch.randn_like(y)
    with Made(TOKENS * OUT) as outwards, Made(TOKENS * IN) as inwards:
        (found,) = torch.autograd.grad(y, x, grad)
    assert len(inwards.alive) == 1
    assert inwards.alive[0].data_ptr() == found.data_ptr()
    assert len(outwards.alive) == 1  # the given one, seen as rows
    assert outwards.alive[0].data_ptr() == grad.data_ptr()


@groups
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("around", [False, True], ids=["forward", "both"])
def test_autocast(groups: int, kind: torch.dtype, around: bool) -> None:
    one, x = layer(groups).float(), batch().float().detach().requires_grad_()
    want = gradients(one, one(x), x, torch.ones(2, 5, OUT))
    with torch.autocast("cpu", kind):
        y = one(x)
        assert y.dtype == kind
        if around:
            found = gradients(one, y, x, torch.ones_like(y))
    if not around:
        found = gradients(one, y, x, torch.ones_like(y))
    for name, value in want.items():
        if value is not None and name != "y":
            assert found[name].dtype == torch.float32
            assert_close(found[name], value, rtol=0.05, atol=0.05)


def test_backward_inside_autocast_of_a_forward_pass_outside() -> None:
    one, x = layer().float(), batch().float().detach().requires_grad_()
    want = gradients(one, one(x), x, torch.ones(2, 5, OUT))
    y = one(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(one, y, x, torch.ones_like(y))
    assert_close(found["down"], want["down"])


def test_gradients_are_differentiated_in_the_type_of_the_forward_pass() -> None:
    """Whatever autocast says when they are asked for."""
    one, x = layer(3).float(), batch().float().detach().requires_grad_()
    (want,) = torch.autograd.grad(plain(one, x).pow(3).sum(), x)
    y = one(x).pow(3).sum()
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = torch.autograd.grad(y, x, create_graph=True)
    assert_close(found, want)
    found.square().sum().backward()
    assert one.up.grad.isfinite().all()


def test_shapes_alone() -> None:
    one = layer(3).to("meta")
    x = batch().detach().to("meta").requires_grad_()
    one(x).sum().backward()
    assert x.grad is not None
    assert one.up.grad is not None


def test_types_that_do_not_fit() -> None:
    with pytest.raises(RuntimeError, match="dtype"):
        layer().float()(batch())


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(reentrant: bool) -> None:
    one, x = layer(3), batch()
    want = gradients(one, one(x), x, torch.ones(2, 5, OUT))
    again = checkpoint(one, x, use_reentrant=reentrant)
    for name, value in gradients(one, again, x, torch.ones(2, 5, OUT)).items():
        assert_close(value, want[name], msg=name)


@groups
def test_compiles_as_one_graph(groups: int) -> None:
    one, x = layer(groups), batch()
    want = gradients(one, one(x), x, torch.ones(2, 5, OUT))
    whole = torch.compile(one, fullgraph=True, backend="aot_eager")
    for name, value in gradients(one, whole(x), x, torch.ones(2, 5, OUT)).items():
        assert_close(value, want[name], msg=name)


@groups
@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
def test_exports_for_any_number_of_tokens(groups: int, strict: bool) -> None:
    one, x = layer(groups), batch(grad=False).flatten(0, 1)
    shapes = ({0: torch.export.Dim("token", min=2)},)
    whole = torch.export.export(one, (x,), dynamic_shapes=shapes, strict=strict).module()
    for some in (x, x[:3]):
        assert_close(whole(some), one(some))


@groups
@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_traces_for_any_number_of_tokens(groups: int, trained: bool, tmp_path: Path) -> None:
    """Tracing is also how Detectron2 counts operations."""
    one, x = layer(groups), batch(grad=False).flatten(0, 1)
    one.requires_grad_(trained)
    one.residual.requires_grad_(False)
    torch.jit.save(torch.jit.trace(one, x), tmp_path / "traced.pt")
    again = torch.jit.load(tmp_path / "traced.pt")
    for some in (x, x[:3]):
        assert_close(again(some), one(some))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_functional_transforms() -> None:
    one, x = layer(), batch(grad=False).flatten(0, 1)

    def loss(up: Tensor, x: Tensor) -> Tensor:
        return torch.func.functional_call(one, {"up": up}, (x,)).square().sum()

    up = one.up.detach()
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(up, x[:, None])
    assert len(each) == TOKENS
    one(x).square().sum().backward()
    assert_close(each.sum(0), one.up.grad)
    with pytest.raises(NotImplementedError, match="forward mode AD"):
        torch.func.jvp(one, (x,), (x,))


@pytest.fixture
def adapted() -> nn.Module:
    """Six blocks of which the last four are adapted."""
    return SoRA(rank=RANK, start_block=2)(tiny_vit())


def test_early_blocks_keep_nothing_and_have_no_backward_pass(adapted: nn.Module) -> None:
    seen: dict[int, tuple[int, bool]] = {}

    def before(index: int) -> Callable[..., None]:
        return lambda module, inputs: seen.update({index: (len(found), inputs[0].requires_grad)})

    for index, block in enumerate(adapted.blocks):
        block.register_forward_pre_hook(before(index))
    with kept(adapted) as found:
        y = adapted(tokens())
    assert [seen[index] for index in range(3)] == [(0, False)] * 3
    assert all(seen[index][0] > 0 and seen[index][1] for index in range(3, 6))
    names = []
    waiting, known = [y.grad_fn], set()
    while waiting:
        if (node := waiting.pop()) is not None and node not in known:
            known.add(node)
            names.append(node.name())
            waiting += [after for after, _ in node.next_functions]
    assert sum(bool(re.search("LowRank", name)) for name in names) == 4 * 4
    assert sum("LayerNorm" in name for name in names) == 2 * 4 - 1  # not that of the first qkv


def test_input_without_gradient_costs_no_product_with_the_residual() -> None:
    one, x = layer(), batch(grad=False)
    y = one(x)
    with Made(TOKENS * IN) as inwards:
        y.sum().backward()
    assert not inwards.alive


def test_dora_needs_no_gradient_of_a_whole_weight() -> None:
    direction = layer(bias=False)
    one = DoRALinear(direction, torch.randn(OUT).double())
    x = batch()
    want = gradients(one, F.linear(x, one.weight, one.bias), x, torch.ones(2, 5, OUT))
    y = one(x)
    with Made(OUT * IN) as weights:
        found = gradients(one, y, x, torch.ones(2, 5, OUT))
    for name, value in want.items():
        assert_close(found[name], value, msg=name)
    assert all(value.shape != (OUT, IN) for value in weights.alive)
