"""The base of estimators that compare the draws of one guide, unit by unit."""

from typing import Unpack

from torch import Tensor

from sfnn_pyro.estimators.base import Coefficients, Estimator, Options
from sfnn_pyro.estimators.checks import SiteKind, check_vectorized
from sfnn_pyro.particles.proposals import ProposalKind
from sfnn_pyro.particles.weights import responsibilities


class OneGuideEstimator(Estimator):
    r"""Gives every path the gradient of the objective; a subclass adds that of the draws.

    .. math:: \sum_m \bar w_m \, \partial \log w_m

    The particles are run at once and are all of one guide, or of the prior.

    Arguments:
        num_particles: M, at least 1.
        options: see ``Estimator``; it needs ``vectorize_particles``.

    Raises:
        ValueError: see ``Estimator``; or the guide is a mixture.
    """

    target = "objective"
    unbiased = True
    divisible = False
    proposals: tuple[ProposalKind, ...] = ("prior", "guide")
    sites: tuple[SiteKind, ...] = ("Bernoulli", "reparameterisable")
    pathwise = True

    def __init__(self, num_particles: int = 20, **options: Unpack[Options]) -> None:
        check_vectorized(self, options)
        super().__init__(num_particles, **options)

    def coefficients(self, log_weight: Tensor) -> Coefficients:
        weight = responsibilities(log_weight)
        return Coefficients(observed=weight, latent=weight, proposal=-weight)
