"""DisARM for several samples: every unit flipped antithetically, layer by layer."""

import math

import torch
from torch import Tensor

from sfnn_pyro.estimators.base import Passes
from sfnn_pyro.estimators.one_guide import OneGuideEstimator
from sfnn_pyro.particles import Particles
from sfnn_pyro.particles.terms import SiteTerm
from sfnn_pyro.particles.weights import finite, leave_one_out, log_mean_exp
from sfnn_pyro.reparam import is_bernoulli


class DisARM(OneGuideEstimator):
    r"""Unbiased gradient of the multi-sample objective from antithetic pairs of particles.

    .. math::
        \sum_m \tfrac12 \left[ \hat C_M(h_1 \ldots h_M) - \hat C_M(h_{-m}, \tilde h_m) \right]
            (h_{mi} - \tilde h_{mi}) \, \sigma(|a_{mi}|)
            + \sum_m \bar w_m \, \partial \log w_m

    for the logit of unit i. :math:`\tilde h` is drawn from the same uniform numbers reversed,
    which is done here given h. A latent site is treated as one layer: the layers before it keep
    their values, those after it are drawn again, so that a step costs one more run of model and
    guide, without gradients, for every latent site. Also called U2G.

    References:
        Dong, Mnih, Tucker, *DisARM: An Antithetic Gradient Estimator for Binary Latent
        Variables*, NeurIPS 2020, arXiv 2006.10680, sections 3 and 4; Yin et al., arXiv
        2006.06448.

    Arguments:
        num_particles: M, at least 1.
        options: see ``Estimator``; its pairs need ``vectorize_particles``.

    Raises:
        ValueError: a discrete latent is not Bernoulli, or the guide is a mixture.

    Example:
        >>> import torch
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> module = DisARM(num_particles=4)(model, PriorProposal(model))
        >>> module(torch.zeros(5, 4), torch.ones(5, 2)).backward()
    """

    why_not = "antithetic pairs stay within one guide; use VIMCO"
    passes = Passes(per_site=1)

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        assert particles.redraw is not None
        total = super().surrogate(particles, log_weight)
        objective, others = log_mean_exp(log_weight), leave_one_out(log_weight)
        kept: dict[str, Tensor] = {}
        for term in particles.components[0].terms:
            assert isinstance(term, SiteTerm)
            if not term.drawn:
                continue
            if is_bernoulli(term.fn) and not term.has_path:
                partner = antithetic(term.logits.detach(), term.value)
                with torch.no_grad():
                    pair = particles.redraw({**kept, term.name: partner}).log_weight()
                flipped = torch.logaddexp(others, pair) - math.log(particles.num_particles)
                # Where no particle can have produced y there is nothing to compare.
                half = finite((objective - flipped) / 2) * particles.scale  # (M, *batch)
                half = half.reshape(half.shape + (1,) * term.fn.event_dim)
                slope = (term.value - partner) * torch.sigmoid(term.logits.detach().abs())
                total = total + (half * slope * term.logits).sum()
            kept[term.name] = term.value.detach()
        return total


def antithetic(logits: Tensor, value: Tensor) -> Tensor:
    r"""Draws the antithetic partner of Bernoulli values, given the values.

    With :math:`h = 1[u < p]` the partner is :math:`\tilde h = 1[1 - u < p]`. Given h = 0 it is
    one with probability min(1, p / (1 - p)); given h = 1 with probability max(0, 2 - 1 / p).

    Arguments:
        logits: ``(..., n)``, broadcastable to ``value``.
        value: ``(M, ..., n)`` of zeros and ones.

    Example:
        >>> import torch
        >>> antithetic(torch.zeros(4), torch.tensor([0.0, 0, 1, 1]))
        tensor([1., 1., 0., 0.])
    """
    odds = logits.exp()  # p / (1 - p)
    one = torch.where(value > 0.5, 1 - (-logits).exp(), odds).clamp(0, 1)
    return torch.rand_like(value).lt(one).to(value)
