"""Exact expectations over all tuples of particles, float64, to 1e-10."""

import math

import pytest
import torch

from sfnn_pyro.estimators import G4, G5
from sfnn_pyro.evaluation.exact import exact_log_likelihood
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from tests.enumeration import expected_gradient, gradient, joint_states, sfnn_log_probs, tuples
from tests.estimators.expectation import all_tuples, weighing

WIDTHS = {"h1": 2, "h2": 1}


@pytest.fixture
def network():
    model = SFNN([2, 2, 1, 3])
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    x, y = torch.tensor([[0.3, -0.7]]), torch.tensor([[1.0, 0.0, 1.0]])
    return model, x, y


def written_out(network, num_particles, c):
    """E of eq. 30 (c = 0) or eq. 32 (c = 1/M), with everything by hand."""
    model, x, y = network
    parameters = list(model.parameters())
    configurations = joint_states(WIDTHS)
    pairs = [sfnn_log_probs(model, x, y, h) for h in configurations]
    to_likelihood = [gradient(a.sum(), parameters) for a, _ in pairs]
    to_prior = [gradient(b.sum(), parameters) for _, b in pairs]
    total = 0.0
    for chosen, _ in tuples(configurations, num_particles):
        probability = math.prod(pairs[k][1].exp().item() for k in chosen)
        w = torch.tensor([pairs[k][0].exp().item() for k in chosen])
        w = w / w.sum()
        for m, k in enumerate(chosen):
            total = total + probability * (w[m] * to_likelihood[k] + (w[m] - c) * to_prior[k])
    return total


def measured(estimator, network):
    """All tuples as one batch: see ``tests/estimators/expectation.py``."""
    model, x, y = network
    configurations = joint_states(WIDTHS)
    log_prior = torch.stack([sfnn_log_probs(model, x, y, h)[1] for h in configurations])
    states = {name: torch.stack([one[name] for one in configurations]) for name in WIDTHS}
    counts = (estimator.num_particles,)
    chosen = all_tuples(len(configurations), estimator.num_particles)
    with weighing(chosen, [log_prior.detach().flatten()], counts, states):
        loss = estimator.differentiable_loss(
            model, PriorProposal(model), x.expand(len(chosen), -1), y.expand(len(chosen), -1)
        )
    return -gradient(loss, list(model.parameters()))


def test_the_batch_of_tuples_is_the_loop_over_them(network):
    """The fast form of the expectation against the slow and obvious one."""
    model, x, y = network
    configurations = joint_states(WIDTHS)
    log_prior = torch.stack([sfnn_log_probs(model, x, y, h)[1] for h in configurations])
    estimator = G5(2, max_plate_nesting=1)
    looped = -expected_gradient(
        estimator,
        model,
        PriorProposal(model),
        x,
        y,
        configurations,
        log_prior.detach().flatten(),
        list(model.parameters()),
    )
    assert torch.allclose(measured(estimator, network), looped, atol=1e-12, rtol=0)


@pytest.mark.parametrize("num_particles", [1, 2])
def test_g4_and_g5_have_their_written_out_expectation_and_it_is_the_same(network, num_particles):
    g4 = measured(G4(num_particles, max_plate_nesting=1), network)
    g5 = measured(G5(num_particles, max_plate_nesting=1), network)
    target = written_out(network, num_particles, 0.0)
    assert torch.allclose(g4, target, atol=1e-10, rtol=0)
    assert torch.allclose(
        g5, written_out(network, num_particles, 1 / num_particles), atol=1e-10, rtol=0
    )
    assert torch.allclose(g4, g5, atol=1e-10, rtol=0)


@pytest.mark.parametrize("c", [0.0, 0.2, 1.0])
def test_g5_expectation_does_not_depend_on_its_constant(network, c):
    g5 = measured(G5(2, c=c, max_plate_nesting=1), network)
    assert torch.allclose(g5, measured(G4(2, max_plate_nesting=1), network), atol=1e-10, rtol=0)


def test_bias_shrinks_as_particles_are_added(network):
    model, x, y = network
    target = gradient(exact_log_likelihood(model, x, y).sum(), list(model.parameters()))
    errors = [
        (measured(G5(m, max_plate_nesting=1), network) - target).norm().item() for m in (1, 2, 3, 4)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < errors[0] / 2.5


@pytest.mark.parametrize("estimator", [G4, G5])
def test_limit_of_many_particles_is_the_gradient_of_the_log_likelihood(estimator):
    """Particles in the exact proportions of P(h|x) give exactly the enumerated gradient."""
    from tests.enumeration import Forced

    model = SFNN([1, 2, 3])
    hidden, output = model.layers
    with torch.no_grad():
        hidden.weight.zero_()
        hidden.bias.copy_(torch.tensor([math.log(1 / 3), 0.0]))  # probabilities 1/4 and 1/2
        output.weight.normal_()
    x, y = torch.ones(1, 1), torch.tensor([[1.0, 0.0, 0.0]])
    particles = torch.tensor([[a, b] for a in (0.0, 0, 0, 1) for b in (0.0, 1)]).unsqueeze(1)
    with Forced({"h1": particles}):
        loss = estimator(8, max_plate_nesting=1).differentiable_loss(
            model, PriorProposal(model), x, y
        )
    exact = exact_log_likelihood(model, x, y).sum()
    parameters = list(model.parameters())
    assert loss.item() == pytest.approx(-exact.item(), abs=1e-12)
    assert torch.allclose(
        -gradient(loss, parameters), gradient(exact, parameters), atol=1e-10, rtol=0
    )
