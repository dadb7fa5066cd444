"""Gumbel straight-through: hard draws forward, the relaxed draw's slope backward."""

from typing import Any, Unpack

from sfnn_pyro.estimators.base import Options
from sfnn_pyro.estimators.g3 import G3
from sfnn_pyro.reparam import GumbelThroughReparam


class GumbelStraightThrough(G3):
    r"""Back-propagation through the tempered relaxation of each draw: biased, low variance.

    .. math::
        h = 1[z > 0], \quad z = a + \log u - \log(1 - u), \qquad
        \partial h / \partial a := \sigma'(z / \tau) / \tau

    Unlike in ``G3`` the slope depends on the noise: steep where a draw was close. Small
    temperatures lower the bias and raise the variance. Takes one-hot sites as well.

    References:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax*, ICLR 2017,
        arXiv 1611.01144, section 2.2; Maddison, Mnih, Teh, arXiv 1611.00712.

    Arguments:
        num_particles: M, at least 1.
        temperature: tau, positive.
        options: see ``Estimator``.

    Raises:
        ValueError: ``temperature`` is not positive, the guide is not the model's prior, or a
            discrete latent is neither Bernoulli nor one-hot.

    Example:
        >>> import torch
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> module = GumbelStraightThrough(20, temperature=0.5)(model, PriorProposal(model))
        >>> module(torch.zeros(5, 4), torch.ones(5, 2)).backward()
    """

    sites = ("Bernoulli", "OneHotCategorical", "reparameterisable")
    responsibility_weighted = False  # its path is that of the noise, not of the value

    def __init__(
        self,
        num_particles: int = 20,
        *,
        temperature: float = 1.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(num_particles, **options)
        self.temperature = temperature
        self._relaxation = GumbelThroughReparam(temperature)

    def relaxation(self) -> Any:
        return self._relaxation
