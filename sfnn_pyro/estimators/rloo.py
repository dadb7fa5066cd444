"""RLOO: leave-one-out REINFORCE for the single-sample bound."""

from typing import ClassVar

import torch
from torch import Tensor

from sfnn_pyro.estimators.base import Coefficients, Estimator


class RLOO(Estimator):
    r"""Unbiased gradient of the *single-sample* bound, each particle the others' baseline.

    .. math::
        \frac{1}{M-1} \sum_m (f_m - \bar f) \, \partial \log R(h_m)
            + \frac1M \sum_m \partial \log P(y, h_m | x), \qquad f_m = \log w_m

    Its target is E[Chat_1], the evidence lower bound, whatever M is: by Theorem 1 of the paper
    that never rewards a stochastic hidden unit when the prior proposes. Use it for comparison, or
    with a guide where the bound of one sample is what you want; ``VIMCO`` has the same baselines
    for the multi-sample objective, which is what this class, like all others, reports.

    References:
        Kool, van Hoof, Welling, *Buy 4 REINFORCE Samples, Get a Baseline for Free!*, 2019;
        Mnih & Rezende, arXiv 1602.06725, section 2.

    Arguments:
        num_particles: M, at least 2.
        max_plate_nesting, vectorize_particles: see ``Estimator``.

    Raises:
        ValueError: fewer than two particles, which have no others (use ``G1``).

    Example:
        >>> import torch
        >>> RLOO(2).coefficients(torch.tensor([3.0, 1.0])).score - 1 / 2
        tensor([ 1., -1.])
    """

    target: ClassVar[str] = "bound"
    unbiased = True
    least_particles: ClassVar[int] = 2
    pathwise: ClassVar[bool] = True

    def coefficients(self, log_weight: Tensor) -> Coefficients:
        m = log_weight.shape[0]
        signal = (log_weight - log_weight.mean(0)) / (m - 1)
        each = torch.full_like(signal, 1 / m)
        # The bound's own -log R has a score of mean zero, which 1/M takes back.
        return Coefficients(observed=each, latent=each, proposal=-each, score=signal + each)
