"""Discrete laws at the edge of their parameters: exact there, with a gradient that is finite.

PyTorch clamps a probability of 0 to the smallest positive number, so that an impossible value has
a log-probability of -15.9 in float32 and not minus infinity, and a Poisson of rate 0 has a
gradient of 0 / 0. A particle that cannot have produced y has a responsibility of zero: the
gradient of an impossible value is zero here, and that of any other is the one-sided limit.
"""

from typing import Any

import torch
from torch import Tensor

from sfnn_pyro.distributions.wrapped import Rescored, base_of, with_base


def exact_log(value: Tensor) -> Tensor:
    """The logarithm, minus infinity at 0 with a gradient of zero there.

    Example:
        >>> import torch
        >>> p = torch.tensor([0.0, 1.0], requires_grad=True)
        >>> exact_log(p).exp().sum().backward()
        >>> p.grad
        tensor([0., 1.])
    """
    zero = value <= 0
    return torch.where(zero, -torch.inf, torch.where(zero, 1.0, value).log())


def times_log(count: Tensor, value: Tensor) -> Tensor:
    """The product of a count and a logarithm; 0 where the count is 0, with a gradient of zero."""
    none = count == 0
    return torch.where(none, 0.0, count * exact_log(torch.where(none, 1.0, value)))


class _BernoulliLimit(Rescored):
    def _log_prob(self, value: Tensor) -> Tensor:
        p = self.base_dist.probs
        return times_log(value, p) + times_log(1 - value, 1 - p)


class _BinomialLimit(Rescored):
    def _log_prob(self, value: Tensor) -> Tensor:
        p, total = self.base_dist.probs, self.base_dist.total_count
        ways = torch.lgamma(total + 1) - torch.lgamma(value + 1) - torch.lgamma(total - value + 1)
        return ways + times_log(value, p) + times_log(total - value, 1 - p)


class _PoissonLimit(Rescored):
    def _log_prob(self, value: Tensor) -> Tensor:
        rate = self.base_dist.rate
        return times_log(value, rate) - rate - torch.lgamma(value + 1)


class _CategoricalLimit(Rescored):
    def _log_prob(self, value: Tensor) -> Tensor:
        log_p = exact_log(self.base_dist.probs)
        shape = torch.broadcast_shapes(value.shape, log_p.shape[:-1])
        index = value.long().expand(shape).unsqueeze(-1)
        return log_p.expand(*shape, log_p.shape[-1]).gather(-1, index).squeeze(-1)


class _OneHotLimit(Rescored):
    def _log_prob(self, value: Tensor) -> Tensor:
        return times_log(value, self.base_dist.probs).sum(-1)


_LIMITS: list[tuple[type, type[Rescored]]] = [
    (torch.distributions.Bernoulli, _BernoulliLimit),
    (torch.distributions.Binomial, _BinomialLimit),
    (torch.distributions.Poisson, _PoissonLimit),
    (torch.distributions.OneHotCategorical, _OneHotLimit),
    (torch.distributions.Categorical, _CategoricalLimit),
]


def at_limits(fn: Any) -> Any:
    """The same law with exact limits, of a discrete distribution given by probabilities or a rate.

    Any other distribution is returned as it is: one given by logits needs nothing.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> at_limits(dist.Bernoulli(probs=torch.zeros(2))).log_prob(torch.tensor([0.0, 1.0]))
        tensor([0., -inf])
    """
    base = base_of(fn)
    for kind, limit in _LIMITS:
        if isinstance(base, kind):
            return fn if given_by_logits(base) else with_base(fn, limit)
    return fn


def given_by_logits(base: Any) -> bool:
    """Whether a discrete distribution was made from logits, not from probabilities or a rate."""
    base = getattr(base, "_categorical", base)  # of a one-hot distribution
    return "logits" in base.__dict__ and base._param is base.__dict__["logits"]
