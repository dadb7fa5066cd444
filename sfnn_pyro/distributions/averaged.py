"""Gumbel straight-through samples whose slope is averaged over relaxed draws of the same value."""

from typing import Any

import torch
from torch import Size, Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sfnn_pyro.distributions import kernels
from sfnn_pyro.distributions.one_hot import PathwiseOneHot
from sfnn_pyro.distributions.units import BernoulliUnits


def uniforms(count: int, like: Tensor) -> Tensor:
    """Uniform numbers ``(count, *like.shape)``."""
    return torch.rand(count, *like.shape, dtype=like.dtype, device=like.device)


def exponentials(count: int, like: Tensor) -> Tensor:
    """Exponential numbers ``(count, *like.shape)``."""
    return torch.empty(count, *like.shape, dtype=like.dtype, device=like.device).exponential_()


def logistic_given(logits: Tensor, value: Tensor, uniform: Tensor) -> Tensor:
    r"""The relaxed draw z of units, given that :math:`h = 1[z > 0]` came out as it did.

    .. math:: z = a + \log u - \log(1 - u), \qquad
        u = h (v p + 1 - p) + (1 - h) v (1 - p), \quad p = \sigma(a)

    Arguments:
        logits: ``(..., n)``, broadcastable to ``value``.
        value: ``(..., n)`` of zeros and ones.
        uniform: v, ``(..., n)``.

    Returns:
        z, positive where h is one.

    Example:
        >>> import torch
        >>> logistic_given(torch.zeros(2), torch.tensor([0.0, 1.0]), torch.full((2,), 0.5))
        tensor([-1.0986,  1.0986])
    """
    low, above, below = noise_given(logits, value, uniform)
    return logits + torch.where(value > 0.5, above.log() - low.log(), low.log() - below.log())


def noise_given(logits: Tensor, value: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The smaller side of the noise u, 1 - u or u, and what it leaves, without cancellation."""
    p = torch.sigmoid(logits)
    tiny = torch.finfo(p.dtype).tiny
    one_minus = (p * (1 - uniform)).clamp(min=tiny)  # 1 - u, given one
    noise = (torch.sigmoid(-logits) * uniform).clamp(min=tiny)  # u, given zero
    is_one = value > 0.5
    low = torch.where(is_one, one_minus, noise)
    return low, (1 - one_minus).clamp(min=tiny), (1 - noise).clamp(min=tiny)


class GumbelRaoUnits(BernoulliUnits):
    r"""Bernoulli units with the slope of the tempered sigmoid, averaged over the noise left.

    .. math:: \partial h / \partial a := \frac1K \sum_k \sigma'(z_k / \tau) / \tau, \qquad
        z_k \sim P(z | h = 1[z > 0])

    Example:
        >>> import torch
        >>> a = torch.zeros(2, requires_grad=True)
        >>> GumbelRaoUnits(a, event_dim=1, draws=100).rsample().sum().backward()
        >>> bool((a.grad > 0).all())
        True
    """

    has_rsample = True

    def __init__(
        self,
        logits: Tensor,
        event_dim: int,
        batch_shape: Size | list[int] | None = None,
        temperature: float = 1.0,
        draws: int = 10,
    ) -> None:
        super().__init__(logits, event_dim, batch_shape)
        self.temperature, self.draws = temperature, draws

    def expand(self, batch_shape: Size, _instance: None = None) -> "GumbelRaoUnits":
        units = GumbelRaoUnits(
            self.logits, self.event_dim, batch_shape, self.temperature, self.draws
        )
        units._probs, units._validate_args = self._probs, self._validate_args
        return units

    def rsample(self, sample_shape: Size = Size()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.attached(kernels.draw(self.probs, shape, self.logits.dtype))

    @torch.no_grad()
    def _slope(self, value: Tensor) -> Tensor:
        total = torch.zeros_like(value)
        for uniform in uniforms(self.draws, value):
            relaxed = torch.sigmoid(logistic_given(self.logits, value, uniform) / self.temperature)
            total += relaxed * (1 - relaxed)
        return total / (self.draws * self.temperature)

    def attached(self, value: Tensor) -> Tensor:
        """Units drawn with these probabilities, with the path of a sample to the logits."""
        return kernels.through(self.logits, value, self._slope(value))


class GumbelRaoOneHot(PathwiseOneHot):
    r"""A one-hot choice with the Jacobian of the tempered softmax, averaged over the noise left.

    Example:
        >>> import torch
        >>> h = GumbelRaoOneHot(torch.zeros(3, requires_grad=True), draws=100).rsample()
        >>> h.requires_grad, h.sum().item()
        (True, 1.0)
    """

    def __init__(self, logits: Tensor, temperature: float = 1.0, draws: int = 10) -> None:
        super().__init__(logits)
        self.temperature, self.draws = temperature, draws

    def expand(self, batch_shape: Size, _instance: None = None) -> "GumbelRaoOneHot":
        logits = self.base_dist.logits.expand(*batch_shape, -1)
        return GumbelRaoOneHot(logits, self.temperature, self.draws)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:
        return self.attached(self.base_dist.sample(sample_shape))

    @torch.no_grad()
    def relaxed(self, value: Tensor) -> Tensor:
        """``(K, *value.shape)``: softmaxes of Gumbel draws whose largest is the given choice."""
        log_rate = torch.log_softmax(self.base_dist.logits, -1)  # of a sum of one
        noise = exponentials(self.draws, value)
        first = (noise * value).sum(-1, keepdim=True)
        others = -(noise * (-log_rate).exp() + first).log()
        z = torch.where(value > 0.5, -first.log(), others)
        return torch.softmax(z / self.temperature, -1)

    def attached(self, value: Tensor) -> Tensor:
        """A choice drawn with these probabilities, with the path of a sample to the logits."""
        relaxed = self.relaxed(value)
        return _Averaged.apply(self.base_dist.logits, value, relaxed, self.temperature)


class _Averaged(Function):
    """A choice as drawn; backward, the mean of the relaxed draws' Jacobians."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, value: Tensor, relaxed: Tensor, temperature: float
    ) -> Tensor:
        ctx.save_for_backward(relaxed)
        ctx.logits_shape, ctx.temperature = logits.shape, temperature
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (relaxed,) = ctx.saved_tensors
        pulled = relaxed * (grad - (relaxed * grad).sum(-1, keepdim=True))
        pulled = pulled.mean(0) / ctx.temperature
        return pulled.sum_to_size(ctx.logits_shape), None, None, None
