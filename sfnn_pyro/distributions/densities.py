"""The log-probability of a layer of Bernoulli units, in blocks that fit a processor's cache."""

from typing import Any

import torch
from torch import Tensor

BLOCK = 2**17
"""Numbers of a block of the arithmetic."""


def widened(logits: Tensor) -> Tensor:
    """Half-precision logits as float32: probabilities and log-weights are never rounded to less."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _sum_log(factors: Tensor) -> Tensor:
    """Sum of logarithms over the last dimension, of numbers in [1/2, 1].

    Up to 32 factors are multiplied before a logarithm is taken, far from underflow: a product
    costs a tenth of a logarithm.
    """
    for _ in range(5):
        width = factors.shape[-1]
        if width % 2:
            break
        factors = factors[..., : width // 2] * factors[..., width // 2 :]
    return factors.log().sum(-1)


def _blocks(tensor: Tensor) -> list[Any]:
    """Slices of the first dimension whose numbers, and a few results of them, fit a CPU's cache."""
    if tensor.device.type != "cpu" or tensor.dim() < 2 or not len(tensor):
        return [...]
    step = max(BLOCK * len(tensor) // max(tensor.numel(), 1), 1)
    return [slice(start, start + step) for start in range(0, len(tensor), step)]


def _log_prob_at_infinity(logits: Tensor, value: Tensor) -> Tensor:
    """The same sum, of logits that may be infinite: 0 of a certain value, else minus infinity."""
    one, zero = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
    return (
        torch.where(value == 0, 0.0, value * one)
        .add(torch.where(value == 1, 0.0, (1 - value) * zero))
        .sum(-1)
    )


def log_prob_sums(logits: Tensor, value: Tensor, *, pull: bool) -> tuple[Tensor, Tensor | None]:
    """Sums over the last dimension of log Bernoulli(value | logits), without a gradient.

    Arguments:
        logits: ``(..., n)``, broadcastable against ``value``.
        value: ``(..., n)`` of zeros and ones.
        pull: whether to return the derivative to the logits too, value - sigmoid(logits), which is
            made while the numbers are in the cache.

    Example:
        >>> import torch
        >>> log_prob_sums(torch.zeros(2), torch.ones(2), pull=True)
        (tensor(-1.3863), tensor([0.5000, 0.5000]))
    """
    shape = logits.shape
    wider = value.shape == shape[max(len(shape) - value.dim(), 0) :]
    if not wider:
        shape = torch.broadcast_shapes(shape, value.shape)
    dtype = widened(logits[:0]).dtype
    sums = logits.new_empty(shape[:-1], dtype=dtype)
    pulls = logits.new_empty(shape, dtype=dtype) if pull else None
    for rows in _blocks(logits) if wider else [...]:
        part = widened(logits[rows])
        values = value[rows] if value.dim() == logits.dim() else value
        probs = part.sigmoid()
        if pulls is not None:
            torch.sub(values, probs, out=pulls[rows])
        # In place: a fresh megabyte costs more than the arithmetic on it.
        confidence = probs.sub_(0.5).abs_().add_(0.5)  # sigmoid(|logits|)
        loss = part.clamp(min=0)
        loss = torch.addcmul(loss, part, values, value=-1, out=loss if wider else None)
        torch.sub(_sum_log(confidence), loss.sum(-1), out=sums[rows])
    if sums.isnan().any():  # of an infinite logit: 0 times infinity
        sums = _log_prob_at_infinity(widened(logits), value)
    return sums, pulls
