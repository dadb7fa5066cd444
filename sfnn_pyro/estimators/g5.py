"""G5: G4 with a constant subtracted from the responsibilities."""

from typing import Unpack

import torch
from torch import Tensor

from sfnn_pyro.estimators.base import Coefficients, Estimator, Options
from sfnn_pyro.particles.weights import responsibilities


class G5(Estimator):
    r"""G4 with a constant as control variate: the same expectation, less variance.

    .. math::
        G_5(\theta) = \sum_m \partial_\theta \left[ \bar w_m \log P(y | h_m)
            + (\bar w_m - c) \log P(h_m | x) \right], \qquad c = 1/M

    Particles that explain y better than the average pull probability mass, the others push it
    away. The constant is zero-mean only for particles drawn from P(h|x): of a
    ``MixtureProposal`` it is subtracted from the prior's share alone.

    References:
        Raiko et al., ICLR 2015, eqs. 31 and 32.

    Arguments:
        num_particles: M, at least 1.
        c: the constant; 1/M unless given.
        options: see ``Estimator``.

    Raises:
        ValueError: the guide does not hold the model's prior: the constant would be a bias.

    Example:
        >>> import torch
        >>> G5(num_particles=2).coefficients(torch.tensor([3.0, 1.0]).log()).control
        tensor([-0.5000, -0.5000])
    """

    target = "likelihood"
    unbiased = False
    proposals = ("prior", "mixture")
    why_not = (
        "its constant is zero-mean only for particles drawn from P(h|x); use G4, or "
        "MixtureProposal(PriorProposal(model), guide)"
    )

    def __init__(
        self,
        num_particles: int = 20,
        *,
        c: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(num_particles, **options)
        self.c = 1 / num_particles if c is None else c

    def coefficients(self, log_weight: Tensor) -> Coefficients:
        weight = responsibilities(log_weight)
        return Coefficients(weight, weight, control=torch.full_like(weight, -self.c))
