"""BitFlip: one unit of every layer and particle flipped, chosen at random."""

import math

import torch
from torch import Tensor

from sfnn_pyro.estimators.base import Passes
from sfnn_pyro.estimators.one_guide import OneGuideEstimator
from sfnn_pyro.estimators.values import drawn_units, slope_of, unit_numbers, units_over
from sfnn_pyro.particles import Particles
from sfnn_pyro.particles.weights import finite, leave_one_out, log_mean_exp


def choose(count: int, like: Tensor) -> Tensor:
    """A unit of ``count`` for each particle and datapoint, of the shape of the log-weights."""
    return torch.randint(count, like.shape, device=like.device)


class BitFlip(OneGuideEstimator):
    r"""Unbiased gradient from the difference that one flipped unit makes.

    .. math::
        \sum_m n \, p_j (1 - p_j) (-1)^{h_{mj}}
            [\hat C_M(h_{-m}, \tilde h_m) - \hat C_M(h_1 \ldots h_M)] \, e_j
            + \sum_m \bar w_m \, \partial \log w_m

    for the logits of a layer of n units, where :math:`\tilde h_m` is :math:`h_m` with unit j
    flipped, j drawn anew for every layer, particle and datapoint. Layers before keep their values,
    those after are drawn again, so that a step costs one more run of model and guide for every
    latent site. Its variance is low where most units are saturated, for whose flips it alone
    pays attention in proportion to p (1 - p); elsewhere ``DisARM`` uses the same runs better.

    References:
        Dimitriev & Zhou, *The Unbiased Gradient Cooperation of Flips*, 2022, arXiv 2208.06124
        (its part for rare units).

    Arguments:
        num_particles: M, at least 1.
        options: see ``Estimator``; it needs ``vectorize_particles``.

    Raises:
        ValueError: a discrete latent is not Bernoulli, or the guide is a mixture.

    Example:
        >>> import torch
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> module = BitFlip(num_particles=4)(model, PriorProposal(model))
        >>> module(torch.zeros(5, 4), torch.ones(5, 2)).backward()
    """

    why_not = "its flips stay within one guide; use VIMCO"
    passes = Passes(per_site=1)

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        assert particles.redraw is not None
        total = super().surrogate(particles, log_weight)
        objective, others = log_mean_exp(log_weight), leave_one_out(log_weight)
        kept: dict[str, Tensor] = {}
        for term in drawn_units(particles):
            value, numbers = term.value.detach(), unit_numbers(term)
            chosen = units_over(choose(numbers.numel(), log_weight), term) == numbers
            flipped = torch.where(chosen, 1 - value, value)
            with torch.no_grad():
                pair = particles.redraw({**kept, term.name: flipped}).log_weight()
            changed = torch.logaddexp(others, pair) - math.log(particles.num_particles)
            # Where no particle can have produced y there is nothing to compare.
            gain = units_over(finite(changed - objective) * particles.scale, term)
            pull = numbers.numel() * slope_of(term) * (1 - 2 * value) * chosen * gain
            total = total + (pull * term.logits).sum()
            kept[term.name] = value
        return total
