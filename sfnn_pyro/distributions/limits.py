"""Discrete laws at the edge of their parameters: exact there, with a gradient that is finite.

PyTorch clamps a probability of 0 to the smallest positive number, so that an impossible value has
a log-probability of -15.9 in float32 and not minus infinity, and a Poisson of rate 0 has a
gradient of 0 / 0. A particle that cannot have produced y has a responsibility of zero: the
gradient of an impossible value is zero here, and that of any other is the one-sided limit.
"""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.nn.functional import logsigmoid

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


def exact_log_sum(log_prob: Tensor, dim: int = 0) -> Tensor:
    """Log of the sum of exponentials over a dimension.

    Where all are minus infinity so is the result, with a gradient of zero: that of
    ``torch.logsumexp`` is NaN.

    Example:
        >>> import torch
        >>> exact_log_sum(torch.full((2,), -torch.inf))
        tensor(-inf)
    """
    peak = log_prob.detach().amax(dim, keepdim=True)
    peak = torch.where(peak.isfinite(), peak, 0.0)
    return exact_log((log_prob - peak).exp().sum(dim)) + peak.squeeze(dim)


def times(count: Tensor, log_prob: Tensor) -> Tensor:
    """The product of a count and a logarithm; 0 where the count is 0, with a gradient of zero."""
    none = count == 0
    return torch.where(none, 0.0, count * torch.where(none, 0.0, log_prob))


class _Limit(Rescored):
    """A discrete law that is exact at the limits of its parameters."""

    @classmethod
    def is_needed(cls, base: Any) -> bool:
        """Whether the law itself is not exact there: one given by logits is."""
        return not given_by_logits(base)

    def _log_both(self) -> tuple[Tensor, Tensor]:
        """The logarithms of a probability and of what it lacks to one."""
        if given_by_logits(self.base_dist):
            return logsigmoid(self.base_dist.logits), logsigmoid(-self.base_dist.logits)
        return exact_log(self.base_dist.probs), exact_log(1 - self.base_dist.probs)


class _BernoulliLimit(_Limit):
    def _log_prob(self, value: Tensor) -> Tensor:
        log_p, log_q = self._log_both()
        return times(value, log_p) + times(1 - value, log_q)


class _BinomialLimit(_Limit):
    @classmethod
    def is_needed(cls, base: Any) -> bool:
        return True

    def _log_prob(self, value: Tensor) -> Tensor:
        (log_p, log_q), total = self._log_both(), self.base_dist.total_count
        ways = torch.lgamma(total + 1) - torch.lgamma(value + 1) - torch.lgamma(total - value + 1)
        return ways + times(value, log_p) + times(total - value, log_q)


class _PoissonLimit(_Limit):
    def _log_prob(self, value: Tensor) -> Tensor:
        rate = self.base_dist.rate
        return times(value, exact_log(rate)) - rate - torch.lgamma(value + 1)


class _CategoricalLimit(_Limit):
    def _log_prob(self, value: Tensor) -> Tensor:
        log_p = exact_log(self.base_dist.probs)
        shape = torch.broadcast_shapes(value.shape, log_p.shape[:-1])
        index = value.long().expand(shape).unsqueeze(-1)
        return log_p.expand(*shape, log_p.shape[-1]).gather(-1, index).squeeze(-1)


class _OneHotLimit(_Limit):
    def _log_prob(self, value: Tensor) -> Tensor:
        return times(value, exact_log(self.base_dist.probs)).sum(-1)


class _GeometricLimit(_Limit):
    def _log_prob(self, value: Tensor) -> Tensor:
        log_p, log_q = self._log_both()
        return times(value, log_q) + log_p


class _NegativeBinomialLimit(_Limit):
    @classmethod
    def is_needed(cls, base: Any) -> bool:
        return True

    def _log_prob(self, value: Tensor) -> Tensor:
        (log_p, log_q), total = self._log_both(), self.base_dist.total_count
        ways = torch.lgamma(total + value) - torch.lgamma(value + 1) - torch.lgamma(total)
        # Of no failure wished for, no success is drawn.
        ways = torch.where((total == 0) & (value == 0), 0.0, ways)
        return ways + times(total, log_q) + times(value, log_p)


class _MultinomialLimit(_Limit):
    def _log_prob(self, value: Tensor) -> Tensor:
        ways = torch.lgamma(value.sum(-1) + 1) - torch.lgamma(value + 1).sum(-1)
        return ways + times(value, exact_log(self.base_dist.probs)).sum(-1)


class _ZeroInflatedLimit(_Limit):
    @classmethod
    def is_needed(cls, base: Any) -> bool:
        return True

    def __init__(self, base_dist: Any) -> None:
        super().__init__(base_dist)
        # A draw computes the one from the other and keeps both.
        self.by_gate = "gate" in base_dist.__dict__

    def _log_prob(self, value: Tensor) -> Tensor:
        if self.by_gate:
            log_zero, log_other = exact_log(self.base_dist.gate), exact_log(1 - self.base_dist.gate)
        else:
            logits = self.base_dist.gate_logits
            log_zero, log_other = logsigmoid(logits), logsigmoid(-logits)
        log_other = log_other + at_limits(self.base_dist.base_dist).log_prob(value)
        both = torch.stack(torch.broadcast_tensors(log_zero, log_other))
        return torch.where(value == 0, exact_log_sum(both), both[1])


class _MixtureLimit(_Limit):
    @classmethod
    def is_needed(cls, base: Any) -> bool:
        return True  # whatever its components are, none of them may have a density at the value

    def _log_prob(self, value: Tensor) -> Tensor:
        component = at_limits(self.base_dist.component_distribution)
        log_prob = component.log_prob(value.unsqueeze(-1 - len(self.event_shape)))
        share = self.base_dist.mixture_distribution
        log_share = share.logits if given_by_logits(share) else exact_log(share.probs)
        return exact_log_sum(log_prob + log_share, -1)


class _MaskedMixtureLimit(_Limit):
    @classmethod
    def is_needed(cls, base: Any) -> bool:
        return not base.has_rsample  # a draw with a path keeps it

    def _log_prob(self, value: Tensor) -> Tensor:
        parts = self.base_dist.component1, self.base_dist.component0
        chosen, other = (at_limits(part).log_prob(value) for part in parts)
        return torch.where(self.base_dist.mask, chosen, other)

    def expand(self, batch_shape: Size, _instance: None = None) -> "_MaskedMixtureLimit":
        base = self.base_dist
        parts = (one.expand(batch_shape) for one in (base.mask, base.component0, base.component1))
        return _MaskedMixtureLimit(dist.MaskedMixture(*parts, validate_args=base._validate_args))


_LIMITS: list[tuple[type, type[_Limit]]] = [
    (dist.Bernoulli, _BernoulliLimit),
    (dist.Binomial, _BinomialLimit),
    (dist.Poisson, _PoissonLimit),
    (dist.Geometric, _GeometricLimit),
    (dist.NegativeBinomial, _NegativeBinomialLimit),
    (dist.Multinomial, _MultinomialLimit),
    (dist.OneHotCategorical, _OneHotLimit),
    (dist.Categorical, _CategoricalLimit),
    (dist.ZeroInflatedDistribution, _ZeroInflatedLimit),
    (dist.MixtureSameFamily, _MixtureLimit),
    (dist.MaskedMixture, _MaskedMixtureLimit),
]


def at_limits(fn: Any) -> Any:
    """The same law with exact limits, of a discrete distribution or a mixture of such.

    Any other distribution is returned as it is: most that are given by logits need nothing.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> at_limits(dist.Bernoulli(probs=torch.zeros(2))).log_prob(torch.tensor([0.0, 1.0]))
        tensor([0., -inf])
    """
    base = base_of(fn)
    limit = _limit_of(type(base))
    return with_base(fn, limit) if limit is not None and limit.is_needed(base) else fn


def units_at_limits(fn: Any) -> Any:
    """The same for a Bernoulli given by logits, where it is not replaced by ``BernoulliUnits``."""
    of_units = _limit_of(type(base_of(fn))) is _BernoulliLimit
    return with_base(fn, _BernoulliLimit) if of_units else fn


_FOUND: dict[type, type[_Limit] | None] = {}


def _limit_of(kind: type) -> type[_Limit] | None:
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
