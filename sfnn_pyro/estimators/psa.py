"""PSA: differences of every unit, summed over paths through the layers above."""

import math

import torch
from torch import Tensor

from sfnn_pyro.estimators.base import Passes
from sfnn_pyro.estimators.one_guide import OneGuideEstimator
from sfnn_pyro.estimators.values import (
    datapoint_sum,
    drawn_units,
    slope_of,
    unit_numbers,
    units_over,
)
from sfnn_pyro.particles import Particles
from sfnn_pyro.particles.weights import finite, leave_one_out, log_mean_exp


class PSA(OneGuideEstimator):
    r"""Path sample-analytic gradient: finite differences in the place of slopes.

    .. math::
        g^l_i = \Delta_i \hat C_M + \sum_{l' > l} \sum_j g^{l'}_j \, \Delta_i \sigma(a^{l'}_j),
        \qquad \partial \hat C_M / \partial a^l_i := \sigma'(a^l_i) \, g^l_i

    where :math:`\Delta_i` is the change as unit i of layer l goes from 0 to 1 and every other
    drawn value stays. Exact in expectation for one layer, with the least variance of all here;
    for more it is biased, less than ``G3``, which takes slopes for both differences. A step
    runs the model once more for every unit: for small networks, or as a reference. Each of several
    particles has differences of its own, the others held as they are.

    References:
        Shekhovtsov, Yanush, Flach, *Path Sample-Analytic Gradient Estimators for Stochastic
        Binary Networks*, NeurIPS 2020, arXiv 2006.03143.

    Arguments:
        num_particles: M, at least 1.
        options: see ``Estimator``; it needs ``vectorize_particles``.

    Raises:
        ValueError: a latent is not Bernoulli, or the guide is a mixture.

    Example:
        >>> import torch
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> module = PSA(num_particles=4)(model, PriorProposal(model))
        >>> module(torch.zeros(5, 4), torch.ones(5, 2)).backward()
    """

    unbiased = False
    sites = ("Bernoulli",)
    why_not = "its differences stay within one guide; use VIMCO"
    passes = Passes(per_unit=1)

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        assert particles.redraw is not None
        total = super().surrogate(particles, log_weight)
        objective, others = log_mean_exp(log_weight), leave_one_out(log_weight)
        terms = drawn_units(particles)
        values = {term.name: term.value.detach() for term in terms}
        probs = {term.name: torch.sigmoid(term.logits.detach()) for term in terms}
        gains: dict[str, Tensor] = {}  # g of the layers done, from the last to the first
        for term in reversed(terms):
            value, numbers = values[term.name], unit_numbers(term)
            gain = torch.zeros_like(value)
            for number in range(numbers.numel()):
                chosen = numbers == number
                fixed = {**values, term.name: torch.where(chosen, 1 - value, value)}
                with torch.no_grad():
                    run = particles.redraw(fixed)
                    changed = torch.logaddexp(others, run.log_weight())
                    # Where no particle can have produced y there is nothing to compare.
                    change = finite(changed - math.log(particles.num_particles) - objective)
                    for later in drawn_units(run):
                        if later.name in gains:
                            moved = torch.sigmoid(later.logits) - probs[later.name]
                            change = change + datapoint_sum(gains[later.name] * moved, later)
                gain = gain + chosen * (1 - 2 * value) * units_over(change, term)
            gains[term.name] = gain
            scale = units_over(torch.as_tensor(particles.scale), term)
            total = total + (scale * slope_of(term) * gain * term.logits).sum()
        return total
