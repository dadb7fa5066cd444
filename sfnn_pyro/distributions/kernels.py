"""Kernels of a layer of Bernoulli units: draw, log-probability, score, straight-through draw.

Each reads and writes an ``(M, B, n)`` tensor as few times as PyTorch's own operations allow.
Logits may lack the particle dimension (the first layer's are the same for every particle):
nothing is then expanded, and gradients are summed over particles before anything else.
"""

import math
from typing import Any

import torch
from torch import Size, Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sfnn_pyro.distributions import random_bits, recorded
from sfnn_pyro.distributions.densities import log_prob_sums
from sfnn_pyro.recording.active import is_recording


def draw(probs: Tensor, shape: Size, dtype: torch.dtype | None = None) -> Tensor:
    """Draws 0 or 1 with the given probabilities.

    Arguments:
        probs: probabilities, broadcastable to ``shape``.
        shape: shape of the draw.
        dtype: of the zeros and ones; that of ``probs`` unless given.

    Returns:
        A float tensor of zeros and ones. A probability of 0 or 1 is never contradicted.

    Example:
        >>> import torch
        >>> draw(torch.tensor([0.0, 1.0]), torch.Size([2, 2]))
        tensor([[0., 1.],
                [0., 1.]])
    """
    if probs.dtype == torch.float32 and probs.device.type == "cpu" and not is_recording():
        return random_bits.draw(probs, shape, dtype or probs.dtype)
    drawn = torch.rand(shape, dtype=probs.dtype, device=probs.device).lt_(probs)
    drawn += probs - probs  # a probability that is NaN gives NaN, not 0
    return drawn if dtype is None else drawn.to(dtype)


class _LogProb(Function):
    r"""Sum over the last dimension of log Bernoulli(value | logits).

    :math:`\log P(v) = v a - \max(a, 0) + \log \sigma(|a|)`, exact for logits of any size.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor) -> Tensor:
        to_logits, to_value = ctx.needs_input_grad
        ctx.shapes = logits.shape, value.shape
        ctx.recorded = is_recording()
        if ctx.recorded:
            # The pull is made anew where it is weighted, and never stored without its weight.
            kept = logits if to_logits or to_value else None
            ctx.save_for_backward(value if to_logits else None, kept)
            return recorded.log_prob(logits, value)
        sums, pull = log_prob_sums(logits, value, pull=to_logits)
        ctx.save_for_backward(pull, logits if to_value else None)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        pull, logits = ctx.saved_tensors
        of_logits, of_value = ctx.shapes
        to_value = ctx.needs_input_grad[1]
        of_values = None
        if to_value:  # finite where a logit is not: a unit that is certain has a slope of 0
            most = math.sqrt(torch.finfo(logits.dtype).max)
            of_values = (grad.unsqueeze(-1) * logits.clamp(-most, most)).sum_to_size(of_value)
        if pull is None:
            return None, of_values
        pulled = recorded.pull(logits, pull, grad) if ctx.recorded else pull * grad.unsqueeze(-1)
        return pulled.sum_to_size(of_logits), of_values


def log_prob(logits: Tensor, value: Tensor, event_dim: int) -> Tensor:
    """Log-probability of binary values, in nats, summed over the last ``event_dim`` dimensions.

    Arguments:
        logits: ``(..., n)``, broadcastable against ``value``.
        value: ``(..., n)`` of zeros and ones.
        event_dim: how many of the last dimensions are one event.

    Example:
        >>> import torch
        >>> log_prob(torch.zeros(3), torch.ones(3), event_dim=1).exp()
        tensor(0.1250)
    """
    if event_dim == 0:
        logits, value = logits.unsqueeze(-1), value.unsqueeze(-1)
    for _ in range(event_dim - 1):
        shape = torch.broadcast_shapes(logits.shape, value.shape)
        logits = logits.expand(shape).flatten(-2)
        value = value.expand(shape).flatten(-2)
    return _LogProb.apply(logits, value)


class _Score(Function):
    """Nothing forward; backward, the gradient of sum of coefficient * log-probability."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, probs: Tensor, value: Tensor, coefficient: Tensor, event_dim: int
    ) -> Tensor:
        ctx.save_for_backward(probs, value, coefficient, logits if is_recording() else None)
        ctx.event_dim = event_dim
        ctx.dtype = logits.dtype
        return coefficient.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        probs, value, coefficient, logits = ctx.saved_tensors
        coefficient = (coefficient * grad).reshape(coefficient.shape + (1,) * ctx.event_dim)
        drawn = coefficient.dim() <= value.dim()  # an observed value has no particle dimension
        if drawn and probs.dim() < value.dim():  # (B, n) against (M, B, n): sum them first
            pulled = (coefficient * value).sum_to_size(probs.shape)
            ones = (1,) * ctx.event_dim
            weight = coefficient.expand(value.shape[: value.dim() - ctx.event_dim] + ones)
            weight = weight.sum_to_size(probs.shape[: probs.dim() - ctx.event_dim] + ones)
            return pulled.sub_(probs * weight).to(ctx.dtype), None, None, None, None
        if logits is not None and ctx.event_dim == 1:
            pulled = recorded.pull(logits, value, coefficient.squeeze(-1))
            return pulled.sum_to_size(probs.shape).to(ctx.dtype), None, None, None, None
        pulled = value - probs
        alone = drawn and coefficient.shape[:1] in (pulled.shape[:1], (), (1,))
        pulled = pulled.mul_(coefficient) if alone else pulled * coefficient
        return pulled.sum_to_size(probs.shape).to(ctx.dtype), None, None, None, None


def score(
    logits: Tensor, probs: Tensor, value: Tensor, coefficient: Tensor, event_dim: int
) -> Tensor:
    r"""A zero whose gradient is that of :math:`\sum c\,\log P(h)`, the weighted score.

    .. math:: \partial / \partial a = c\,(h - \sigma(a))

    Arguments:
        logits: ``(..., n)`` pre-activations a.
        probs: sigmoid of the logits, computed when the value was drawn.
        value: ``(M, ..., n)``, constant.
        coefficient: ``(M, ...)``, constant, broadcastable to the batch.
        event_dim: how many of the last dimensions are one event.

    Example:
        >>> import torch
        >>> a = torch.zeros(2, requires_grad=True)
        >>> score(a, a.detach().sigmoid(), torch.ones(2), torch.ones(()), 1).backward()
        >>> a.grad
        tensor([0.5000, 0.5000])
    """
    return _Score.apply(logits, probs, value, coefficient, event_dim)


class _StraightThrough(Function):
    """A drawn value whose gradient passes to the logits through a slope."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, probs: Tensor, value: Tensor, sigmoid: bool) -> Tensor:
        ctx.recorded = is_recording()
        if sigmoid:
            ctx.save_for_backward(logits if ctx.recorded else probs)
        ctx.logits_shape, ctx.dtype = logits.shape, logits.dtype
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        grad = grad.sum_to_size(ctx.logits_shape)
        if ctx.saved_tensors and ctx.recorded:
            grad = recorded.slope(grad, ctx.saved_tensors[0])
        elif ctx.saved_tensors:
            (probs,) = ctx.saved_tensors
            grad = torch.ops.aten.sigmoid_backward(grad.to(probs.dtype), probs)
        return grad.to(ctx.dtype), None, None, None


def straight_through(logits: Tensor, probs: Tensor, value: Tensor, *, slope: str) -> Tensor:
    r"""Binary units as drawn, with a gradient that passes straight through to the logits.

    ``slope="sigmoid"`` is eqs. 20 to 22, :math:`\partial h/\partial a := \sigma'(a)`;
    ``slope="identity"`` is eq. 19, :math:`\partial h/\partial a := 1`.

    Arguments:
        logits: ``(..., n)`` pre-activations a.
        probs: sigmoid of the logits.
        value: ``(M, ..., n)``, drawn with these probabilities.
        slope: ``"sigmoid"`` or ``"identity"``.

    Example:
        >>> import torch
        >>> a = torch.zeros(2, requires_grad=True)
        >>> straight_through(a, a.sigmoid(), torch.ones(2), slope="sigmoid").sum().backward()
        >>> a.grad
        tensor([0.2500, 0.2500])
    """
    return _StraightThrough.apply(logits, probs.detach(), value, slope == "sigmoid")


class _Through(Function):
    """A drawn value whose gradient passes to the logits times a given slope."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        ctx.logits_shape, ctx.dtype = logits.shape, logits.dtype
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (grad * slope).sum_to_size(ctx.logits_shape).to(ctx.dtype), None, None


def through(logits: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    r"""Units as drawn, with :math:`\partial h/\partial a` := a slope of each draw's own.

    Arguments:
        logits: ``(..., n)`` pre-activations a.
        value: ``(M, ..., n)``, drawn with these logits.
        slope: ``(M, ..., n)``, constant.

    Example:
        >>> import torch
        >>> a = torch.zeros(2, requires_grad=True)
        >>> through(a, torch.ones(2), torch.tensor([0.5, 2.0])).sum().backward()
        >>> a.grad
        tensor([0.5000, 2.0000])
    """
    return _Through.apply(logits, value, slope)
