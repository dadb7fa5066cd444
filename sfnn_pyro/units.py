"""Layers of Bernoulli units as Pyro distributions, expanded over particles without a copy."""

from typing import ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from sfnn_pyro import bernoulli


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
        base = fn
        while isinstance(base, torch.distributions.Independent):
            base = base.base_dist
        if not isinstance(base, torch.distributions.Bernoulli) or "logits" not in base.__dict__:
            return None
        return cls(base.logits, fn.event_dim, fn.batch_shape)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.boolean, self.event_dim)

    @property
    def probs(self) -> Tensor:
        """Sigmoid of the logits, detached, computed once."""
        if self._probs is None:
            with torch.no_grad():
                self._probs = torch.sigmoid(bernoulli.widened(self.logits))
        return self._probs

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.logits).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 - self.mean)

    def expand(self, batch_shape: Size, _instance: None = None) -> "BernoulliUnits":
        units = type(self)(self.logits, self.event_dim, batch_shape)
        units._probs = self._probs
        return units

    def sample(self, sample_shape: Size = torch.Size()) -> Tensor:
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            return bernoulli.draw(self.probs, shape, self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        return bernoulli.log_prob(self.logits, value, self.event_dim)

    def score(self, value: Tensor, coefficient: Tensor) -> Tensor:
        """A zero whose gradient is that of the sum of coefficient * log-probability.

        Arguments:
            value: ``(M, ..., n)``.
            coefficient: ``(M, ...)``, constant, broadcastable to the batch shape.
        """
        value = value.detach()
        return bernoulli.score(self.logits, self.probs, value, coefficient, self.event_dim)


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
        shape = self._extended_shape(sample_shape)
        return self.attached(bernoulli.draw(self.probs, shape, self.logits.dtype))

    def attached(self, value: Tensor) -> Tensor:
        """Units drawn with these probabilities, with the path of a sample to the logits."""
        return bernoulli.straight_through(self.logits, self.probs, value, slope=self.slope)


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
