"""VIMCO: score-function gradient of the multi-sample objective with baselines from the others."""

import math
from typing import Unpack

import torch
from torch import Tensor

from sfnn_pyro.estimators.base import Coefficients, Estimator, Options
from sfnn_pyro.particles.weights import finite, leave_one_out, log_mean_exp, responsibilities

MEANS = ("geometric", "arithmetic")


class VIMCO(Estimator):
    r"""Unbiased gradient of the multi-sample objective for model and guide.

    .. math::
        \sum_m (\hat C_M - \hat C_{M,-m}) \, \partial \log R(h_m)
            + \sum_m \bar w_m \, \partial \log w_m

    where :math:`\hat C_{M,-m}` puts the mean of the other weights in the place of
    :math:`w_m`. It trains exactly what is reported, with any proposal, and the proposal too:
    the usual choice for a guide's parameters, and with the prior the unbiased alternative to
    ``G5``. Reparameterisable sites get the gradient through their samples.

    References:
        Mnih & Rezende, *Variational Inference for Monte Carlo Objectives*, ICML 2016,
        arXiv 1602.06725, eqs. 9 and 10.

    Arguments:
        num_particles: M, at least 2.
        mean: of the other weights, ``"geometric"`` (the paper's) or ``"arithmetic"``.
        options: see ``Estimator``.

    Raises:
        ValueError: fewer than two particles, which have no others (use ``G1``); unknown mean.

    Example:
        >>> import torch
        >>> signal = VIMCO(2, mean="arithmetic").coefficients(torch.tensor([3.0, 1.0]).log()).score
        >>> signal.exp()  # 2/1 and 2/3: the objective with and without the particle
        tensor([2.0000, 0.6667])
    """

    target = "objective"
    unbiased = True
    min_particles = 2
    pathwise = True

    def __init__(
        self,
        num_particles: int = 20,
        *,
        mean: str = "geometric",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(num_particles, **options)
        if mean not in MEANS:
            raise ValueError(f"mean={mean!r}: choose one of {', '.join(MEANS)}")
        self.mean = mean

    def coefficients(self, log_weight: Tensor) -> Coefficients:
        weight = responsibilities(log_weight)
        signal = log_mean_exp(log_weight) - self._baseline(log_weight)
        # Where a weight is zero the objective is minus infinity with positive probability.
        signal = finite(signal)
        return Coefficients(observed=weight, latent=weight, proposal=-weight, score=signal)

    def _baseline(self, log_weight: Tensor) -> Tensor:
        """``(M, *batch)``: the objective with each particle replaced by a mean of the others."""
        m = log_weight.shape[0]
        others = leave_one_out(log_weight)
        if self.mean == "arithmetic":
            return others - math.log(m - 1)
        mean = (log_weight.sum(0) - log_weight) / (m - 1)
        return torch.logaddexp(others, mean) - math.log(m)
