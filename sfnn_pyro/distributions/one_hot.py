"""The base of one-hot choices whose sample has a path to their logits."""

from typing import ClassVar

import pyro.distributions as dist
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class PathwiseOneHot(TorchDistribution):
    """A one-hot choice; the sample of a subclass has a path for gradients to the logits.

    Arguments:
        logits: ``(..., n)``.
    """

    arg_constraints: ClassVar[dict] = {}
    has_rsample = True

    def __init__(self, logits: Tensor) -> None:
        self.base_dist = dist.OneHotCategorical(logits=logits, validate_args=False)
        super().__init__(
            self.base_dist.batch_shape, self.base_dist.event_shape, validate_args=False
        )

    @property
    def support(self) -> constraints.Constraint:
        return self.base_dist.support

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base_dist.log_prob(value)
