"""Every estimator that claims no bias, against the enumerated gradient of its target."""

import pytest
import torch

from sfnn_pyro.estimators import G1, OVIS, RLOO, VIMCO
from tests.estimators.expectation import (
    close,
    expected_bound,
    expected_objective,
    gradient,
)
from tests.estimators.networks import COUNTS, network, plates

KINDS = ("prior", "recognition", "mixture")
SCORES = {
    "vimco": VIMCO,
    "vimco-arithmetic": lambda m: VIMCO(m, mean="arithmetic"),
    "ovis": OVIS,
    "rloo": RLOO,
}


def check(case, estimator):
    objective, measured = case.expected(estimator)
    log_y, log_h, log_r = case.tables()
    tables = log_y + log_h, log_r, case.counts
    reported = expected_objective(*tables)
    assert objective == pytest.approx(reported.item(), abs=1e-10)
    target = reported if estimator.target == "objective" else expected_bound(*tables)
    expected = gradient(target, case.parameters())
    assert estimator.unbiased
    assert close(measured, expected), (measured - expected).abs().max()
    return expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCORES)
def test_deep_network(name, kind):
    expected = check(network(kind, COUNTS[kind]), SCORES[name](2))
    assert expected.abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCORES)
def test_plain_function_with_nested_plates(name, kind):
    check(plates(kind, COUNTS[kind]), SCORES[name](2))


@pytest.mark.parametrize("name", SCORES)
def test_three_particles_and_an_uneven_mixture(name):
    check(network("mixture", (2, 1), sizes=(2, 2, 3)), SCORES[name](3))


@pytest.mark.parametrize("num_particles", [1, 2])
@pytest.mark.parametrize("fixed", [0.0, -7.0])
def test_g1_with_its_averages_at_any_fixed_value(num_particles, fixed):
    case = network("prior", (num_particles,))
    estimator = G1(num_particles)
    averages = {"h1": torch.rand(2, 2), "h2": torch.rand(2, 1)}
    for pair in averages.values():
        pair[0] += fixed
    estimator.load_state_dict({"averages": averages})
    check(case, estimator)


def test_ovis_with_gamma_one_is_vimco_without_its_weight_term():
    """Closed form of the biased member: the score of R times Chat_M - log mean of the others."""
    case = network("recognition", (2,), sizes=(2, 2, 3))
    estimator = OVIS(2, gamma=1.0)
    assert not estimator.unbiased
    _, measured = case.expected(estimator)
    log_y, log_h, (log_r,) = case.tables()
    total = 0.0
    for a in range(4):
        for b in range(4):
            w = (log_y + log_h - log_r)[[a, b]]
            probability = (log_r[a] + log_r[b]).exp()
            weight = torch.softmax(w, 0)
            chat = torch.logsumexp(w, 0) - torch.log(torch.tensor(2.0))
            signal = chat - w.flip(0)
            pull = (signal.detach() * log_r[[a, b]]).sum()
            pull = pull + (weight.detach() * (log_y + log_h)[[a, b]]).sum()
            total = total + probability.detach() * pull
    assert close(measured, gradient(total, case.parameters()))
