"""MuProp: the score of what a first-order expansion around the mean field leaves."""

import math
from typing import Any

import torch
from torch import Tensor

from sfnn_pyro.estimators.base import (
    Passes,
    score_pulls,
    weighted_sum,
)
from sfnn_pyro.estimators.one_guide import OneGuideEstimator
from sfnn_pyro.estimators.values import (
    Leaves,
    MeanUnitsReparam,
    datapoint_sum,
    drawn_units,
    slope_of,
    units_over,
    value_gradients,
)
from sfnn_pyro.particles import Particles, Term
from sfnn_pyro.particles.weights import finite, leave_one_out, log_mean_exp
from sfnn_pyro.reparam import is_bernoulli


class MuProp(OneGuideEstimator):
    r"""Score-function gradient less a Taylor expansion around the network's own means.

    .. math::
        \sum_m [L - \bar L_m - \bar g_m^\top (h_m - \bar h)] (h_m - \sigma(a_m))
            + \sum_m \sigma'(a_m) \circ \bar g_m + \sum_m \bar w_m \, \partial \log w_m

    for the logits a of a layer, with :math:`L = \hat C_M`, the mean field
    :math:`\bar h = \sigma(\bar a)` of one further run in which every layer is its mean,
    :math:`\bar L_m` the objective with the mean field's weight in the place of
    :math:`w_m`, and :math:`\bar g_m` its derivative by :math:`\bar h`. Unbiased with one
    particle already, for the price of one run without particles. With many particles ``VIMCO``
    has as little variance, and costs less.

    References:
        Gu, Levine, Sutskever, Mnih, *MuProp: Unbiased Backpropagation for Stochastic Neural
        Networks*, ICLR 2016, arXiv 1511.05176, eqs. 5 and 6; without its running baselines.

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
        >>> module = MuProp(num_particles=1)(model, PriorProposal(model))
        >>> module(torch.zeros(5, 4), torch.ones(5, 2)).backward()
    """

    why_not = "its mean field is that of one guide; use VIMCO"
    passes = Passes(whole=1, single=1)

    def _mean_strategy(self, site: Any) -> Any:
        if not site["is_observed"] and is_bernoulli(site["fn"]):
            return MeanUnitsReparam()
        return self.strategy(site)

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        assert particles.redraw is not None
        total = super().surrogate(particles, log_weight)
        terms = drawn_units(particles)
        if not terms:
            return total
        with Leaves():
            field = particles.redraw({}, count=1, strategy=self._mean_strategy)
        means = {term.name: term for term in drawn_units(field)}
        of_field = field.log_weight()  # (1, *batch)
        gradients = value_gradients(list(means.values()), of_field)
        both = torch.logaddexp(leave_one_out(log_weight), of_field.detach())
        share = finite((of_field.detach() - both).exp())  # (M, *batch), of the mean field
        # Where the mean field cannot have produced y it is no baseline.
        left = log_mean_exp(log_weight) - finite(both - math.log(particles.num_particles))
        scale = torch.as_tensor(particles.scale)
        signals: dict[int, Tensor] = {}
        for term in terms:
            known = gradients[term.name]
            away = datapoint_sum(known * (term.value.detach() - means[term.name].value), term)
            signals[id(term)] = finite(left - share * away.detach())
            pull = units_over(share * scale, term) * known * slope_of(term)
            total = total + (pull * term.logits).sum()

        def signal(term: Term) -> Tensor:
            return signals.get(id(term), finite(left))

        pulls = score_pulls(particles, signal)
        return total + weighted_sum(pulls, particles.scale, log_weight)
