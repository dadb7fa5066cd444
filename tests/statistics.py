"""Means of random draws against what they should be, at a stated rate of false alarms."""

import torch
from torch import Tensor

SIGMAS = 6
"""Standard errors that a mean may be off: by the normal limit a right program is that far off
with probability 2e-9. A test compares fewer than 500 numbers, so it raises a false alarm with
probability below 1e-6; and conftest.py fixes the seed before every test."""


def same_mean(draws: Tensor, expected: Tensor | float) -> bool:
    """Whether the mean over the first dimension is what it should be, to ``SIGMAS`` errors.

    Arguments:
        draws: ``(R, ...)``, independent over the first dimension, at least a thousand of them and,
            of zeros and ones, at least a hundred of each kind: the normal limit then holds.
        expected: broadcastable to ``(...)``.
    """
    draws = draws.double()
    expected = torch.as_tensor(expected).double()
    count = draws.shape[0]
    if count < 1000:
        raise ValueError(f"{count} draws are too few for the normal limit")
    error = draws.std(0) / count**0.5
    return bool(((draws.mean(0) - expected).abs() <= SIGMAS * error + 1e-12).all())


def unbiased(estimates: Tensor, exact: Tensor) -> bool:
    """Whether estimates of log-likelihoods are, before the logarithm, right in the mean.

    An importance-sampling estimate of a likelihood is unbiased for every number of particles.

    Arguments:
        estimates: ``(R * N,)``, R independent ones of N datapoints, in nats.
        exact: ``(N,)``, in nats.
    """
    ratio = (estimates.reshape(-1, len(exact)) - exact).exp()
    return same_mean(ratio, 1.0)
