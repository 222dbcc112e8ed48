"""The forward and backward pass of a low-rank layer, in as few passes over memory as it takes.

Beside the products with the frozen weight, everything here is a product with a thin matrix, which
takes about the time of reading the wide one. So sums are formed inside of products (`addmm_`), and
the bias is one component more, whose coefficient is 1 for every token.
"""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Gradients = tuple[Tensor | None, ...]


def low_rank_linear(
    x: Tensor, residual: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
) -> Tensor:
    """Return `x (residual + scale * up @ down)' + bias` without building that weight.

    The backward pass keeps `x` and `x @ down'` and no other activation. Everything is computed in
    the type of autocast where it is on, else in that of `x`, which `residual` must then have.

    Args:
        x: (..., in). Dimensions that cannot be viewed as one are copied, and the copy is kept.
        residual: (out, in).
        bias: (out,) or None.
        down: (group, rank, in).
        up: (group, out / group, rank); group k makes the k-th part of the output.
        scale: factor of the low-rank term.

    Returns:
        (..., out).
    """
    kind = x.dtype
    if _autocasts(x) and kind != torch.float64:  # which autocast leaves alone
        kind = torch.get_autocast_dtype(x.device.type)
        residual, bias = residual.to(kind), None if bias is None else bias.to(kind)
    rows = x.reshape(-1, x.shape[-1]).to(kind)  # (token, in)
    inputs = rows, residual, bias, down.to(kind), up.to(kind), scale
    usual = down.requires_grad and up.requires_grad and not residual.requires_grad
    # A compiler decides itself what to keep, and a trace cannot hold what Python computes.
    if usual and not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        y: Tensor = _LowRankLinear.apply(*inputs)[0]
    else:
        y = _forward(*inputs)[0]
    return y.view(*x.shape[:-1], residual.shape[0])


class _LowRankLinear(torch.autograd.Function):
    """Gradients for input, bias and both factors, none for the residual."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, Tensor]:
        return _forward(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.scale = inputs
        ctx.save_for_backward(*tensors, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> Gradients:
        *inputs, t = ctx.saved_tensors
        if grad is None:
            return (None,) * len(ctx.needs_input_grad)
        off = torch.autocast(grad.device.type, enabled=False) if _autocasts(grad) else nullcontext()
        with off:  # the types are those of the forward pass, whatever holds here
            if torch.is_grad_enabled():  # to be differentiated again, where t would be a constant
                return _differentiable(inputs, ctx.scale, grad, ctx.needs_input_grad)
            return _backward(inputs, ctx.scale, t, grad.contiguous(), ctx.needs_input_grad)


def _forward(
    x: Tensor, residual: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the output (token, out) and its coefficients `x @ down'` (token, group * rank)."""
    groups, width, rank = up.shape
    t = x @ down.flatten(0, 1).t()
    coefficients = (t if scale == 1 else scale * t).view(-1, groups, rank)
    if bias is not None and x.device.type == "cpu":  # GPUs add a bias for nothing
        ones = t.new_ones(t.shape[0], groups, 1)  # `len` would be a constant in a trace
        coefficients = torch.cat([coefficients, ones], 2)
        up = torch.cat([up, bias.view(groups, width, 1)], 2)
        bias = None
    y = F.linear(x, residual, bias)
    parts = y.view(-1, groups, width)
    if torch.compiler.is_compiling():  # compilers know baddbmm_ on whole tensors alone
        for k in range(groups):
            parts[:, k].addmm_(coefficients[:, k], up[k].t())
    else:
        parts.transpose(0, 1).baddbmm_(coefficients.transpose(0, 1), up.transpose(1, 2))
    return y, t


def _backward(
    inputs: list[Any], scale: float, t: Tensor, grad: Tensor, needed: tuple[bool, ...]
) -> Gradients:
    """Return the gradients of `_forward`'s arguments, given that of its output (token, out)."""
    x, residual, _, down, up = inputs
    groups, width, rank = up.shape
    parts = grad.view(-1, groups, width).unbind(1)
    # (token, group * rank)
    grad_t = scale * torch.cat([part @ one for part, one in zip(parts, up, strict=True)], 1)
    grad_x = (grad @ residual).addmm_(grad_t, down.flatten(0, 1)) if needed[0] else None
    grad_down = (grad_t.t() @ x).view(down.shape)
    # One reading of the output's gradient serves up and bias. Products read rows of tokens fastest.
    rows = t.new_ones(groups, rank + 1, len(t))
    torch.mul(t.t().view(groups, rank, -1), scale, out=rows[:, :rank])
    both = [one @ part for one, part in zip(rows, parts, strict=True)]  # (rank + 1, out / group)
    grad_up = torch.stack([one[:rank].t() for one in both])
    grad_bias = torch.cat([one[rank] for one in both]) if needed[2] else None
    return grad_x, None, grad_bias, grad_down, grad_up, None


def _differentiable(
    inputs: list[Any], scale: float, grad: Tensor, needed: tuple[bool, ...]
) -> Gradients:
    """Return the same gradients in a form that can be differentiated."""
    x, residual, bias, down, up = inputs
    y, _ = _forward(x, residual, bias, down, up, scale)
    wanted = [index for index, need in enumerate(needed) if need]
    found = torch.autograd.grad(y, [inputs[i] for i in wanted], grad, create_graph=True)
    by_index = dict(zip(wanted, found, strict=True))
    return tuple(by_index.get(index) for index in range(len(needed)))


def _autocasts(x: Tensor) -> bool:
    device = x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
