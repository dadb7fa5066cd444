"""Importance weights of M particles, in log space; the particle dimension is the first."""

import math

import torch
from torch import Tensor


def log_mean_exp(log_weight: Tensor) -> Tensor:
    r"""The multi-sample estimate of a log-likelihood (eq. 6), in nats.

    .. math:: \hat C_M = \log \frac1M \sum_{m=1}^M w_m

    References:
        Raiko, Berglund, Alain, Dinh. *Techniques for Learning Binary Stochastic Feedforward
        Neural Networks*, ICLR 2015, eq. 6.

    Arguments:
        log_weight: ``(M, ...)``, log-weights in nats; ``-inf`` is a weight of zero.

    Returns:
        ``(...)``, ``-inf`` where every weight is zero.

    Example:
        >>> import torch
        >>> round(log_mean_exp(torch.tensor([0.5, 0.25]).log()).exp().item(), 4)
        0.375
    """
    return torch.logsumexp(log_weight, 0) - math.log(log_weight.shape[0])


def responsibilities(log_weight: Tensor) -> Tensor:
    r"""Normalised importance weights (eqs. 16 and 28), held constant.

    .. math:: \bar w_m = w_m / \sum_{m'} w_{m'}

    Where no particle has positive weight the result is 0, so that no NaN reaches a gradient,
    while the objective itself is ``-inf``. What is below the
    square root of the smallest normal number (1e-19 in float32) is 0 too: it is lost in any sum
    with the others, and its products are denormal numbers, which halve a processor's speed.

    Arguments:
        log_weight: ``(M, ...)``, log-weights in nats.

    Returns:
        ``(M, ...)``, summing to one over the first dimension.

    Example:
        >>> import torch
        >>> responsibilities(torch.tensor([3.0, 1.0]).log())
        tensor([0.7500, 0.2500])
    """
    log_weight = log_weight.detach()
    none = log_weight.amax(0, keepdim=True) == -torch.inf
    weight = torch.softmax(log_weight, 0).masked_fill_(none, 0.0)
    return torch.threshold_(weight, math.sqrt(torch.finfo(weight.dtype).tiny), 0.0)


def finite(signal: Tensor) -> Tensor:
    """A learning signal, zero where it is not finite: where weights are zero.

    Example:
        >>> import torch
        >>> finite(torch.tensor([1.0, -torch.inf, torch.nan]))
        tensor([1., 0., 0.])
    """
    return torch.where(signal.isfinite(), signal, torch.zeros_like(signal))


def effective_sample_size(log_weight: Tensor) -> Tensor:
    r"""How many equally weighted particles the M weighted ones are worth.

    .. math:: \mathrm{ESS} = 1 / \sum_m \bar w_m^2

    Arguments:
        log_weight: ``(M, ...)``, log-weights in nats.

    Returns:
        ``(...)``, between 1 and M; 0 where every weight is zero.

    Example:
        >>> import torch
        >>> effective_sample_size(torch.zeros(4, 3))
        tensor([4., 4., 4.])
    """
    squares = responsibilities(log_weight).square().sum(0)
    return torch.where(squares == 0, squares, squares.reciprocal())


def leave_one_out(log_weight: Tensor) -> Tensor:
    r"""For every particle, the log-sum of the weights of all others.

    .. math:: \ell_m = \log \sum_{m' \neq m} w_{m'}

    Nothing is subtracted: sums from either side meet in the middle, so that a particle which
    holds nearly all the weight costs no digits. Linear in M.

    Arguments:
        log_weight: ``(M, ...)``, log-weights in nats.

    Returns:
        ``(M, ...)``; ``-inf`` where all others have zero weight, and for M = 1.

    Example:
        >>> import torch
        >>> leave_one_out(torch.tensor([1.0, 2.0, 3.0]).log()).exp().round()
        tensor([5., 4., 3.])
    """
    edge = torch.full_like(log_weight[:1], -torch.inf)
    if len(log_weight) == 1:
        return edge
    before = torch.cat([edge, _running(log_weight)[:-1]])
    after = torch.cat([edge, _running(log_weight.flip(0))[:-1]]).flip(0)
    return torch.logaddexp(before, after)


def _running(log_weight: Tensor) -> Tensor:
    return torch.logcumsumexp(log_weight, 0)
