"""A loss whose gradients are known before anything asks for them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class KnownGradients(Function):
    """A loss with known gradients to its leaves, which ``backward`` multiplies and passes on.

    Arguments:
        value: the loss.
        grads: its gradient to each of the leaves.
        leaves: the parameters.

    Raises:
        RuntimeError: in a backward pass with ``create_graph=True``.

    Example:
        >>> import torch
        >>> leaf = torch.zeros(2, requires_grad=True)
        >>> KnownGradients.apply(torch.tensor(5.0), [torch.ones(2)], leaf).backward()
        >>> leaf.grad
        tensor([1., 1.])
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, grads: Sequence[Tensor], *leaves: Tensor) -> Tensor:
        ctx.grads = grads
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "an estimate of a gradient has no derivative: its coefficients are constants. "
                "Take the gradient without create_graph=True"
            )
        return None, None, *(grad * known for known in ctx.grads)
