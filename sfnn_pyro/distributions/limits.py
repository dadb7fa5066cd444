"""Discrete laws at the edge of their parameters: exact there, with a gradient that is finite.

PyTorch clamps a probability of 0 to the smallest positive number, so that an impossible value has
a log-probability of -15.9 in float32 and not minus infinity, and a Poisson of rate 0 has a
gradient of 0 / 0. A particle that cannot have produced y has a responsibility of zero: the
gradient of an impossible value is zero here, and that of any other is the one-sided limit.
"""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from sfnn_pyro.distributions.wrapped import Rescored, base_of, has_law_of, with_base


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


class _GeometricLimit(Rescored):
    def _log_prob(self, value: Tensor) -> Tensor:
        p = self.base_dist.probs
        return times_log(value, 1 - p) + exact_log(p)


class _NegativeBinomialLimit(Rescored):
    def _log_prob(self, value: Tensor) -> Tensor:
        p, total = self.base_dist.probs, self.base_dist.total_count
        ways = torch.lgamma(total + value) - torch.lgamma(value + 1) - torch.lgamma(total)
        # Of no failure wished for, no success is drawn.
        ways = torch.where((total == 0) & (value == 0), 0.0, ways)
        return ways + times_log(total, 1 - p) + times_log(value, p)


class _MultinomialLimit(Rescored):
    def _log_prob(self, value: Tensor) -> Tensor:
        ways = torch.lgamma(value.sum(-1) + 1) - torch.lgamma(value + 1).sum(-1)
        return ways + times_log(value, self.base_dist.probs).sum(-1)


_LIMITS: list[tuple[type, type[Rescored]]] = [
    (dist.Bernoulli, _BernoulliLimit),
    (dist.Binomial, _BinomialLimit),
    (dist.Poisson, _PoissonLimit),
    (dist.Geometric, _GeometricLimit),
    (dist.NegativeBinomial, _NegativeBinomialLimit),
    (dist.Multinomial, _MultinomialLimit),
    (dist.OneHotCategorical, _OneHotLimit),
    (dist.Categorical, _CategoricalLimit),
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
    limit = _limit_of(type(base))
    return fn if limit is None or given_by_logits(base) else with_base(fn, limit)


_FOUND: dict[type, type[Rescored] | None] = {}


def _limit_of(kind: type) -> type[Rescored] | None:
    if kind not in _FOUND:
        _FOUND[kind] = next((limit for known, limit in _LIMITS if has_law_of(kind, known)), None)
    return _FOUND[kind]


def given_by_logits(base: Any) -> bool:
    """Whether a discrete distribution was made from logits, not from probabilities or a rate."""
    # A one-hot or multinomial distribution holds the categorical one that it is made of.
    base = getattr(base, "_categorical", base)
    logits = base.__dict__.get("logits")
    # A Geometric does not say what it was made from, and is scored by its probabilities.
    return logits is not None and getattr(base, "_param", None) is logits
