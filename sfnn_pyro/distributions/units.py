"""Layers of Bernoulli units as Pyro distributions, expanded over particles without a copy."""

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from sfnn_pyro.distributions import kernels, recorded
from sfnn_pyro.distributions.densities import widened
from sfnn_pyro.distributions.limits import given_by_logits
from sfnn_pyro.distributions.wrapped import base_of, has_law_of, is_masked, with_base
from sfnn_pyro.recording.active import is_recording


class BernoulliUnits(TorchDistribution):
    r"""``Bernoulli(logits=a).to_event(n)`` that broadcasts its logits lazily.

    A particle plate expands every distribution inside it. Here the expansion changes the batch
    shape only: the sigmoid of a layer that all particles share is computed once.

    Arguments:
        logits: ``(..., n)`` pre-activations.
        event_dim: how many of the last dimensions are one event.
        batch_shape: shape of the batch, into which the logits' own broadcasts.

    Example:
        >>> import torch
        >>> units = BernoulliUnits(torch.zeros(100, 3), event_dim=1).expand([20, 100])
        >>> units.sample().shape, units.logits.shape
        (torch.Size([20, 100, 3]), torch.Size([100, 3]))
    """

    arg_constraints: ClassVar[dict] = {"logits": constraints.real}
    has_rsample = False

    def __init__(
        self, logits: Tensor, event_dim: int, batch_shape: Size | list[int] | None = None
    ) -> None:
        self.logits = logits
        self._probs: Tensor | None = None
        split = logits.dim() - event_dim
        batch_shape = logits.shape[:split] if batch_shape is None else torch.Size(batch_shape)
        super().__init__(batch_shape, logits.shape[split:], validate_args=False)

    @classmethod
    def of(cls, fn: dist.Distribution) -> "BernoulliUnits | None":
        """The lazy form of a Bernoulli given by logits, or None for any other distribution."""
        base = base_of(fn)
        if not (has_law_of(type(base), dist.Bernoulli) and given_by_logits(base)):
            return None
        return cls.in_place_of(fn)

    @classmethod
    def in_place_of(cls, fn: Any, *args: Any) -> Any:
        """Units of the same law as a Bernoulli: one layer, or element by element under a mask.

        Arguments:
            fn: a Bernoulli, or ``to_event``, ``mask`` and ``expand_by`` around one.
            args: further arguments of the class.
        """
        if is_masked(fn):
            return with_base(fn, lambda base: cls(base.logits, 0, base.batch_shape, *args))
        units = cls(base_of(fn).logits, fn.event_dim, fn.batch_shape, *args)
        # Values that are observed are checked where the distribution's own are.
        units._validate_args = base_of(fn)._validate_args
        return units

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.boolean, self.event_dim)

    @property
    def probs(self) -> Tensor:
        """Sigmoid of the logits, detached, computed once."""
        if self._probs is None:
            with torch.no_grad():
                self._probs = torch.sigmoid(widened(self.logits))
        return self._probs

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.logits).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 - self.mean)

    def expand(self, batch_shape: Size, _instance: None = None) -> "BernoulliUnits":
        units = type(self)(self.logits, self.event_dim, batch_shape)
        units._probs, units._validate_args = self._probs, self._validate_args
        return units

    def sample(self, sample_shape: Size = torch.Size()) -> Tensor:
        with torch.no_grad():
            return self._drawn(sample_shape)

    def _drawn(self, sample_shape: Size) -> Tensor:
        """Zeros and ones with the sigmoid's probabilities, without a gradient."""
        shape, logits = self._extended_shape(sample_shape), self.logits.detach()
        single = logits.dtype != torch.float64 and logits.device.type == "cpu"
        if single and is_recording():
            return recorded.draw(logits, shape)
        return kernels.draw(self.probs, shape, logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        return kernels.log_prob(self.logits, value, self.event_dim)

    def score(self, value: Tensor, coefficient: Tensor) -> Tensor:
        """A zero whose gradient is that of the sum of coefficient * log-probability.

        Arguments:
            value: ``(M, ..., n)``.
            coefficient: ``(M, ...)``, constant, broadcastable to the batch shape.
        """
        value = value.detach()
        return kernels.score(self.logits, self.probs, value, coefficient, self.event_dim)


class StraightThroughUnits(BernoulliUnits):
    r"""Bernoulli units with a differentiable sample, :math:`h = \sigma(a) + \epsilon`.

    The noise :math:`\epsilon` is held constant, so that :math:`\partial h/\partial a :=
    \sigma'(a)`: the biased relaxation of G3. Samples are exactly 0 or 1.

    References:
        Raiko et al., ICLR 2015, eqs. 20 to 22.

    Example:
        >>> import torch
        >>> a = torch.zeros(2, requires_grad=True)
        >>> StraightThroughUnits(a, event_dim=1).rsample().sum().backward()
        >>> a.grad
        tensor([0.2500, 0.2500])
    """

    has_rsample = True
    slope: ClassVar[str] = "sigmoid"

    def rsample(self, sample_shape: Size = torch.Size()) -> Tensor:
        return self.attached(self._drawn(sample_shape))

    def attached(self, value: Tensor) -> Tensor:
        """Units drawn with these probabilities, with the path of a sample to the logits."""
        return kernels.straight_through(self.logits, self.probs, value, slope=self.slope)


class IdentityThroughUnits(StraightThroughUnits):
    r"""Bernoulli units whose sample has slope one, :math:`\partial h/\partial a := 1` (G2).

    References:
        Bengio, Léonard, Courville. *Estimating or Propagating Gradients Through Stochastic
        Neurons*, 2013; Raiko et al., ICLR 2015, eq. 19.

    Example:
        >>> import torch
        >>> a = torch.zeros(2, requires_grad=True)
        >>> IdentityThroughUnits(a, event_dim=1).rsample().sum().backward()
        >>> a.grad
        tensor([1., 1.])
    """

    slope: ClassVar[str] = "identity"
