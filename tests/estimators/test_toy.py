"""The toy E[(b - p0)^2] of the papers: closed forms of mean and variance against measured ones.

With p = sigma(a), s = p (1 - p), delta = 1 - 2 p0 the gradient by a is delta s. Of 15 pairs of p
and p0, four estimators and two moments, 120 numbers are compared at four standard errors each: by
Bonferroni's bound a right program fails with probability below 120 * 6.3e-5 = 0.8%, at a seed
that conftest.py fixes.
"""

import pyro
import pyro.distributions as dist
import pytest
import torch

from sfnn_pyro.estimators import G3, RLOO, DisARM, ReinMax
from sfnn_pyro.guides import PriorProposal

TARGETS = (0.45, 0.49, 0.499, 0.501, 0.51)
PROBABILITIES = (0.2, 0.4, 0.85)
DRAWS = 40_000
SIGMAS = 4


def g3(p, p0):
    s = p * (1 - p)
    return 2 * s * (p - p0), 4 * s**3


def reinmax(p, p0):
    s, delta = p * (1 - p), 1 - 2 * p0
    return delta * s, s * ((1 - p) * (1 - p0) ** 2 + p * p0**2) - delta**2 * s**2


def rloo(p, p0):
    s, delta = p * (1 - p), 1 - 2 * p0
    return delta * s, delta**2 * s * (1 / 2 - s)


def disarm(p, p0):
    s, delta = p * (1 - p), 1 - 2 * p0
    return delta * s, delta**2 * s * (max(p, 1 - p) / 2 - s)


CLOSED = {"g3": (G3(1), g3), "reinmax": (ReinMax(1), reinmax), "rloo": (RLOO(2), rloo)}
CLOSED["disarm"] = (DisARM(1), disarm)


def gradients(estimator, p, p0):
    """One gradient for each of many units of the same probability."""
    logits = torch.logit(torch.full((DRAWS,), p)).requires_grad_()

    def model():
        with pyro.plate("data", DRAWS):
            b = pyro.sample("b", dist.Bernoulli(logits=logits))
            pyro.factor("y", (b - p0) ** 2)

    loss = estimator.differentiable_loss(model, PriorProposal(model))
    return -torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("p", PROBABILITIES)
@pytest.mark.parametrize("p0", TARGETS)
@pytest.mark.parametrize("name", CLOSED)
def test_mean_and_variance_are_the_closed_forms(name, p0, p):
    estimator, closed = CLOSED[name]
    found = gradients(estimator, p, p0)
    mean, variance = closed(p, p0)
    centred = found - found.mean()
    measured = centred.square().sum() / (DRAWS - 1)
    error = (measured / DRAWS).sqrt()
    assert (found.mean() - mean).abs() <= SIGMAS * error
    spread = ((centred**4).mean() - measured**2).clamp(min=0).sqrt() / DRAWS**0.5
    assert (measured - variance).abs() <= SIGMAS * spread


def test_g3_stops_at_p0():
    assert g3(0.45, 0.45)[0] == 0 and reinmax(0.45, 0.45)[0] > 0
