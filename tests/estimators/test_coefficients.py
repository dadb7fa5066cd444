"""Coefficients of every estimator, particle by particle as they are written in the papers.

Expectations cannot tell one baseline from another: any that leaves a particle out is unbiased.
"""

import math

import pytest
import torch

from sfnn_pyro.estimators import G1, G3, G4, G5, OVIS, RLOO, VIMCO, DisARM, ReweightedWakeSleep

INF = math.inf


def vimco(w, m, mean):
    others = w[:m] + w[m + 1 :]
    if mean == "geometric":
        stand_in = math.exp(sum(map(math.log, others)) / len(others))
    else:
        stand_in = sum(others) / len(others)
    with_it, without = sum(w) / len(w), (sum(others) + stand_in) / len(w)
    return math.log(with_it) - math.log(without)


def ovis(w, m, gamma):
    size, share = len(w), w[m] / sum(w)
    chat = math.log(sum(w) / size)
    control = chat - math.log((1 - 1 / size) / (1 - share)) - gamma * share
    return chat - control - (1 - gamma) * math.log(1 - 1 / size)


def rloo(w, m):
    logs = [math.log(one) for one in w]
    return (logs[m] - sum(logs) / len(w)) / (len(w) - 1) + 1 / len(w)


SCORES = {
    "vimco": (VIMCO, {}, lambda w, m: vimco(w, m, "geometric")),
    "vimco, arithmetic": (VIMCO, {"mean": "arithmetic"}, lambda w, m: vimco(w, m, "arithmetic")),
    "ovis": (OVIS, {}, lambda w, m: ovis(w, m, 0.0)),
    "ovis, between": (OVIS, {"gamma": 0.3}, lambda w, m: ovis(w, m, 0.3)),
    "ovis, one": (OVIS, {"gamma": 1.0}, lambda w, m: ovis(w, m, 1.0)),
    "rloo": (RLOO, {}, rloo),
}


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("name", SCORES)
def test_learning_signals(name, size):
    make, options, by_hand = SCORES[name]
    log_weight = torch.randn(size, 4)
    c = make(size, **options).coefficients(log_weight)
    weights = log_weight.exp()
    expected = [[by_hand(column.tolist(), m) for column in weights.T] for m in range(size)]
    assert torch.allclose(c.score, torch.tensor(expected), atol=1e-12)
    each = weights / weights.sum(0) if make is not RLOO else torch.full((size, 4), 1 / size)
    for value, sign in ((c.observed, 1), (c.latent, 1), (c.proposal, -1)):
        assert torch.allclose(value, sign * each, atol=1e-12)
    assert c.control is None


@pytest.mark.parametrize("make", [VIMCO, OVIS])
def test_a_particle_that_alone_has_weight_has_no_signal(make):
    """The objective without it is minus infinity."""
    c = make(3).coefficients(torch.tensor([[-INF], [0.0], [-INF]]))
    assert c.score[1].item() == 0 and c.score.isfinite().all()


@pytest.mark.parametrize("make", [G1, G3, G4, G5, DisARM, ReweightedWakeSleep])
def test_what_is_weighted_and_what_is_not(make):
    log_weight = torch.randn(3, 2)
    share = log_weight.exp() / log_weight.exp().sum(0)
    c = make(3).coefficients(log_weight)
    assert torch.allclose(c.observed, share) and c.score is None
    assert (c.latent is None) == (make in (G1, G3))
    assert c.latent is None or torch.allclose(c.latent, share)
    assert (c.proposal is None) == (make is not DisARM)
    assert c.proposal is None or torch.allclose(c.proposal, -share)
    assert (c.control is None) == (make is not G5)
    assert c.control is None or torch.allclose(c.control, torch.full((3, 2), -1 / 3))
    assert make is not G5 or torch.equal(
        G5(3, c=0.5).coefficients(log_weight).control, torch.full((3, 2), -0.5)
    )
