"""Gumbel-Rao: Gumbel straight-through, its slope averaged over the noise that the draw leaves."""

from typing import Any, Unpack

from sfnn_pyro.estimators.base import Options
from sfnn_pyro.estimators.checks import check_whole
from sfnn_pyro.estimators.g3 import G3
from sfnn_pyro.reparam import GumbelRaoReparam


class GumbelRao(G3):
    r"""``GumbelStraightThrough`` with the same expectation and less variance.

    .. math::
        h = 1[z > 0], \qquad
        \partial h / \partial a := \frac1K \sum_k \sigma'(z_k / \tau) / \tau, \quad
        z_k \sim P(z \mid h)

    The slope's noise given the draw is averaged out over K further relaxed draws, for which
    neither model nor guide runs. No gradient passes through their conditional law. Biased as
    ``GumbelStraightThrough`` is, so that temperatures may be lower.

    References:
        Paulus, Maddison, Krause, *Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient
        Estimator*, ICLR 2021, arXiv 2010.04838.

    Arguments:
        num_particles: M, at least 1.
        temperature: tau, positive.
        draws: K, at least 1.
        options: see ``Estimator``.

    Raises:
        ValueError: ``temperature`` or ``draws`` is out of range, the guide is not the model's
            prior, or a discrete latent is neither Bernoulli nor one-hot.

    Example:
        >>> import torch
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> module = GumbelRao(20, temperature=0.5, draws=100)(model, PriorProposal(model))
        >>> module(torch.zeros(5, 4), torch.ones(5, 2)).backward()
    """

    sites = ("Bernoulli", "OneHotCategorical", "reparameterisable")
    responsibility_weighted = False  # its path is that of further noise

    def __init__(
        self,
        num_particles: int = 20,
        *,
        temperature: float = 1.0,
        draws: int = 10,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(num_particles, **options)
        check_whole("draws", draws, 1)
        self.temperature, self.draws = temperature, draws
        self._relaxation = GumbelRaoReparam(temperature, draws)

    def relaxation(self) -> Any:
        return self._relaxation
