"""Distributions whose samples carry no gradient."""

from typing import Any, ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints


class ConstantSample(TorchDistribution):
    """Any distribution, drawn without a path for gradients; densities are unchanged.

    Pyro's ``has_rsample_(False)`` does the same, except under ``to_event``, where the property
    has no setter. A value is what ``rsample`` gives, where there is one: some distributions of
    Pyro draw hard values there and soft ones in ``sample``.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> loc = torch.zeros(3, requires_grad=True)
        >>> fn = ConstantSample(dist.Normal(loc, 1).to_event(1))
        >>> fn().requires_grad, fn.log_prob(torch.zeros(3)).requires_grad
        (False, True)
    """

    arg_constraints: ClassVar[dict] = {}
    has_rsample = False

    def __init__(self, base_dist: Any) -> None:
        self.base_dist = base_dist
        super().__init__(base_dist.batch_shape, base_dist.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return self.base_dist.support

    def expand(self, batch_shape: Size, _instance: None = None) -> "ConstantSample":
        return ConstantSample(self.base_dist.expand(batch_shape))

    def sample(self, sample_shape: Size = torch.Size()) -> Tensor:
        draw = self.base_dist.rsample if self.base_dist.has_rsample else self.base_dist.sample
        with torch.no_grad():
            return draw(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base_dist.log_prob(value)
