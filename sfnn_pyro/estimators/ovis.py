"""OVIS: score-function gradient with the control variate that is optimal as M grows."""

import math
from typing import Unpack

from torch import Tensor

from sfnn_pyro.estimators.base import Coefficients, Estimator, Options
from sfnn_pyro.particles.weights import finite, leave_one_out, log_mean_exp, responsibilities


class OVIS(Estimator):
    r"""Gradient of the multi-sample objective whose signal-to-noise ratio grows with M.

    .. math::
        \sum_m (\hat C_M - \bar w_m - c_m) \, \partial \log R(h_m)
            + \sum_m \bar w_m \, \partial \log P(y, h_m | x), \\
        c_m = \hat C_M - \log \frac{1 - 1/M}{1 - \bar w_m} - \gamma \bar w_m
            + (1 - \gamma) \log(1 - 1/M)

    With gamma = 0 the control variate depends on the other particles alone: unbiased. With
    gamma = 1 (for a small effective sample size) it is not, and the bias vanishes with the
    weights' spread. For few particles prefer ``VIMCO``; a guide's gradient under ``VIMCO`` gets
    noisier as M grows, under this it does not.

    References:
        Liévin, Dittadi, Christensen, Winther, *Optimal Variance Control of the Score Function
        Gradient Estimator for Importance Weighted Bounds*, NeurIPS 2020, arXiv 2008.01998,
        section 4.

    Arguments:
        num_particles: M, at least 2.
        gamma: in [0, 1].
        options: see ``Estimator``.

    Raises:
        ValueError: fewer than two particles, or ``gamma`` out of range.

    Example:
        >>> OVIS(20, gamma=0).unbiased, OVIS(20, gamma=1).unbiased
        (True, False)
    """

    target = "objective"
    min_particles = 2
    pathwise = True

    def __init__(
        self,
        num_particles: int = 20,
        *,
        gamma: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(num_particles, **options)
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma={gamma}: must lie between 0 and 1")
        self.gamma = gamma
        self.unbiased = gamma == 0

    def coefficients(self, log_weight: Tensor) -> Coefficients:
        m = log_weight.shape[0]
        weight = responsibilities(log_weight)
        # Chat_M - log((1 - 1/M) / (1 - weight)) is the log-mean of the others.
        baseline = leave_one_out(log_weight) - math.log(m - 1)
        baseline = baseline - self.gamma * weight + (1 - self.gamma) * math.log(1 - 1 / m)
        signal = log_mean_exp(log_weight) - baseline
        signal = finite(signal)
        return Coefficients(observed=weight, latent=weight, proposal=-weight, score=signal)
