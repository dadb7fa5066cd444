"""Units and one-hot choices whose path has the slope of the trapezoidal rule: ReinMax."""

from typing import Any

import torch
from torch import Size, Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sfnn_pyro.distributions import kernels
from sfnn_pyro.distributions.one_hot import PathwiseOneHot
from sfnn_pyro.distributions.units import BernoulliUnits


class ReinMaxUnits(BernoulliUnits):
    r"""Bernoulli units whose sample has the slope :math:`|h - \sigma(a)| / 2`, blended with G3's.

    .. math:: \partial h / \partial a := (1 - \lambda) \sigma'(a) + \lambda |h - \sigma(a)| / 2

    Example:
        >>> import torch
        >>> a = torch.tensor([1.0986, 1.0986], requires_grad=True)  # probabilities of 3/4
        >>> ReinMaxUnits(a, 1).attached(torch.tensor([0.0, 1.0])).sum().backward()
        >>> a.grad.round(decimals=3)
        tensor([0.3750, 0.1250])
    """

    has_rsample = True

    def __init__(
        self,
        logits: Tensor,
        event_dim: int,
        batch_shape: Size | list[int] | None = None,
        blend: float = 1.0,
    ) -> None:
        super().__init__(logits, event_dim, batch_shape)
        self.blend = blend

    def expand(self, batch_shape: Size, _instance: None = None) -> "ReinMaxUnits":
        units = ReinMaxUnits(self.logits, self.event_dim, batch_shape, self.blend)
        units._probs, units._validate_args = self._probs, self._validate_args
        return units

    def rsample(self, sample_shape: Size = Size()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.attached(kernels.draw(self.probs, shape, self.logits.dtype))

    def attached(self, value: Tensor) -> Tensor:
        """Units drawn with these probabilities, with the path of a sample to the logits."""
        p = self.probs
        slope = (1 - self.blend) * p * (1 - p) + self.blend * (value - p).abs() / 2
        return kernels.through(self.logits, value, slope)


class ReinMaxOneHot(PathwiseOneHot):
    r"""A one-hot choice D whose sample has the Jacobian of ReinMax, blended with the softmax's.

    .. math::
        \partial D / \partial a := (1 - \lambda) J(\pi)
            + \lambda \left[ 2 J\!\left(\tfrac{\pi + D}{2}\right) - \tfrac12 J(\pi) \right],
        \qquad J(q) = \operatorname{diag} q - q q^\top

    Example:
        >>> import torch
        >>> a = torch.zeros(2, requires_grad=True)
        >>> ReinMaxOneHot(a).attached(torch.tensor([1.0, 0.0]))[0].backward()
        >>> a.grad
        tensor([ 0.2500, -0.2500])
    """

    def __init__(self, logits: Tensor, blend: float = 1.0) -> None:
        super().__init__(logits)
        self.blend = blend

    def expand(self, batch_shape: Size, _instance: None = None) -> "ReinMaxOneHot":
        return ReinMaxOneHot(self.base_dist.logits.expand(*batch_shape, -1), self.blend)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:
        return self.attached(self.base_dist.sample(sample_shape))

    def attached(self, value: Tensor) -> Tensor:
        """A choice drawn with these probabilities, with the path of a sample to the logits."""
        logits = self.base_dist.logits
        return _OneHot.apply(logits, torch.softmax(logits.detach(), -1), value, self.blend)

    def log_prob(self, value: Tensor) -> Tensor:
        # Written as a product, so that a path through the value is one through its law too.
        logits = self.base_dist.logits
        return (value * logits.clamp(min=torch.finfo(logits.dtype).min)).sum(-1)


class _OneHot(Function):
    """A choice as drawn; backward, the Jacobian of ReinMax times the gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, probs: Tensor, value: Tensor, blend: float) -> Tensor:
        ctx.save_for_backward(probs, value)
        ctx.logits_shape, ctx.blend = logits.shape, blend
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        probs, value = ctx.saved_tensors
        mean, own = (probs * grad).sum(-1, keepdim=True), (value * grad).sum(-1, keepdim=True)
        first = probs * (grad - mean)
        # The mean over all k of the trapezoid from D to k, and from k to D.
        second = (value * (grad - mean) + probs * (grad - own)) / 2
        pulled = (1 - ctx.blend) * first + ctx.blend * second
        return pulled.sum_to_size(ctx.logits_shape), None, None, None
