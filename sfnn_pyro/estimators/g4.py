"""G4: each particle as a target, weighted by its responsibility."""

from torch import Tensor

from sfnn_pyro.estimators.base import Coefficients, Estimator
from sfnn_pyro.particles.weights import responsibilities


class G4(Estimator):
    r"""Generalised EM: self-normalised importance sampling of the likelihood's gradient.

    .. math::
        G_4(\theta) = \sum_m \bar w_m \, \partial_\theta
            \left[ \log P(y | h_m) + \log P(h_m | x) \right]

    Biased for every finite M, tending to the gradient of log P(y|x) as M grows. Takes any
    proposal, and leaves its parameters alone. With the prior as proposal ``G5`` has the same
    expectation and less variance.

    References:
        Tang & Salakhutdinov, NIPS 2013; Raiko et al., ICLR 2015, eqs. 29 and 30.

    Arguments:
        num_particles: M, at least 1; with M = 1 nothing is learnt about which h explains y.
        options: see ``Estimator``.

    Example:
        >>> import torch
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> module = G4(num_particles=20)(model, PriorProposal(model))
        >>> module(torch.zeros(5, 4), torch.ones(5, 2)).backward()
    """

    target = "likelihood"
    unbiased = False
    responsibility_weighted = True

    def coefficients(self, log_weight: Tensor) -> Coefficients:
        weight = responsibilities(log_weight)
        return Coefficients(observed=weight, latent=weight)
