"""RLOO: leave-one-out REINFORCE for the single-sample bound."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sfnn_pyro.estimators.base import (
    Coefficients,
    Estimator,
    coefficient_pulls,
    score_pulls,
    weighted_sum,
)
from sfnn_pyro.particles import Particles, Term
from sfnn_pyro.particles.weights import finite


class RLOO(Estimator):
    r"""Unbiased gradient of the *single-sample* bound, each particle the others' baseline.

    .. math::
        \frac{1}{M-1} \sum_m (f_m - \bar f) \, \partial \log R(h_m)
            + \frac1M \sum_m \partial \log P(y, h_m | x), \qquad f_m = \log w_m

    Its target is E[Chat_1], the evidence lower bound, whatever M is: by Theorem 1 of the paper
    that never rewards a stochastic hidden unit when the prior proposes. Use it for comparison, or
    with a guide where the bound of one sample is what you want; ``VIMCO`` has the same baselines
    for the multi-sample objective, which is what this class, like all others, reports.

    Beside a global latent, a latent in a further plate is given the part of :math:`\log w_m` that
    can depend on it as its signal, without the noise of the plate's other elements (``Chunked``
    and ``ParticleParallel`` give it the whole).

    References:
        Kool, van Hoof, Welling, *Buy 4 REINFORCE Samples, Get a Baseline for Free!*, 2019;
        Mnih & Rezende, arXiv 1602.06725, section 2.

    Arguments:
        num_particles: M, at least 2.
        options: see ``Estimator``.

    Raises:
        ValueError: fewer than two particles, which have no others (use ``G1``).

    Example:
        >>> import torch
        >>> RLOO(2).coefficients(torch.tensor([3.0, 1.0])).score - 1 / 2
        tensor([ 1., -1.])
    """

    target = "bound"
    unbiased = True
    min_particles = 2
    pathwise = True

    def coefficients(self, log_weight: Tensor) -> Coefficients:
        m = log_weight.shape[0]
        # Where a weight is zero the bound is minus infinity with positive probability.
        signal = finite((log_weight - log_weight.mean(0)) / (m - 1))
        each = torch.full_like(signal, 1 / m)
        # The bound's own -log R has a score of mean zero, which 1/M takes back.
        return Coefficients(observed=each, latent=each, proposal=-each, score=signal + each)

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        """Each value's score sees the terms of a log-weight that can depend on it.

        A latent in a plate that the datapoints do not share (many local latents beside a global
        one) is independent of the plate's other elements: their noise is left out of its signal.
        """
        local = any(term.plates for part in particles.components for term in part.terms)

        def seen(term: Term) -> Tensor:
            return particles.local_log_weight(term.plates).detach() if local else log_weight

        return self.surrogate_of(particles, log_weight, seen)

    def surrogate_of(
        self, particles: Particles, log_weight: Tensor, seen: Callable[[Term], Tensor]
    ) -> Tensor:
        """The surrogate whose score at a term has the signal of the log-weights that it sees."""
        c = self.coefficients(log_weight)
        return _surrogate(particles, c, lambda term: self.coefficients(seen(term)).score)

    def surrogate_from(self, particles: Particles, c: Coefficients) -> Tensor:
        return _surrogate(particles, c, lambda term: c.score)


def _surrogate(
    particles: Particles, c: Coefficients, score: Callable[[Term], Tensor | None]
) -> Tensor:
    # What the prior proposed has no density in the weights, whose score were to be taken back.
    by_prior = {id(term) for term in particles.proposed_by_prior}

    def signal(term: Term) -> Any:
        own = score(term)
        return own - c.observed if id(term) in by_prior and own is not None else own

    pulls = coefficient_pulls(particles, replace(c, score=None)) + score_pulls(particles, signal)
    return weighted_sum(pulls, particles.scale, c.observed)
