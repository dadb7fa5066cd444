import itertools

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive
from pyro.optim import SGD

from sfnn_pyro.estimators import G4, G5
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.evaluation.exact import exact_log_likelihood
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import HybridSFNN
from tests.enumeration import Forced, states
from tests.statistics import unbiased

LEARNED = pytest.mark.parametrize("learned", [True, False])


@LEARNED
def test_probabilities_sum_to_one(learned):
    model = HybridSFNN([3, 4, 5, 3], stochastic=2, learned=learned)
    x = torch.rand(1, 3).expand(8, 3)
    assert exact_log_likelihood(model, x, states(3)).exp().sum().item() == pytest.approx(1)


@LEARNED
def test_agrees_with_the_network_written_out(learned):
    model = HybridSFNN([2, 3, 3, 2], stochastic=1, learned=learned)
    x, y = torch.rand(4, 2), torch.rand(4, 2).round()
    total = torch.zeros(4)
    for h in itertools.product([0.0, 1.0], repeat=2):
        d, weight = x, torch.ones(4)
        for number, value in enumerate(h):
            p = torch.full((4,), 0.5)
            if learned:
                p = torch.sigmoid(d @ model.gates[number].weight.T + model.gates[number].bias)[:, 0]
            weight = weight * (p if value else 1 - p)
            own = d @ model.layers[number].weight.T + model.layers[number].bias
            d = torch.sigmoid(own + value * model.beside[number].weight[:, 0])
        q = torch.sigmoid(d @ model.layers[2].weight.T + model.layers[2].bias)
        total = total + weight * (q * y + (1 - q) * (1 - y)).prod(-1)
    assert torch.allclose(exact_log_likelihood(model, x, y), total.log(), atol=1e-12)


def test_coins_have_no_weights_of_their_own():
    sizes = [784, 200, 200, 10]
    parameters = [
        sum(p.numel() for p in HybridSFNN(sizes, "categorical", learned=learned).parameters())
        for learned in (True, False)
    ]
    # 40 stochastic and 160 deterministic units per layer, as in section 3.
    shared = 784 * 160 + 40 * 160 + 160 + 160 * 160 + 40 * 160 + 160 + 160 * 10 + 10
    assert parameters == [shared + 784 * 40 + 40 + 160 * 40 + 40, shared]


@LEARNED
@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "gaussian"])
def test_every_parameter_learns_under_svi(learned, likelihood):
    model = HybridSFNN([4, 5, 5, 3], likelihood, stochastic=2, learned=learned)
    before = [p.detach().clone() for p in model.parameters()]
    svi = SVI(model, PriorProposal(model), SGD({"lr": 0.1}), G4(num_particles=6))
    y = torch.tensor([0, 1, 2]) if likelihood == "categorical" else torch.rand(3, 3).round()
    assert svi.step(torch.rand(3, 4), y) > 0
    for old, new in zip(before, model.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_gradient_of_coins_is_that_of_the_log_mean_exp():
    model = HybridSFNN([3, 4, 4, 2], stochastic=2, learned=False)
    x, y = torch.rand(3, 3), torch.rand(3, 2).round()
    particles = {name: torch.rand(5, 3, 2).round() for name in ("h1", "h2")}
    gradients = []
    for estimator in (G4(num_particles=5), G5(num_particles=5)):
        model.zero_grad()
        with Forced(particles):
            estimator.loss_and_grads(model, PriorProposal(model), x, y)
        gradients.append([p.grad.clone() for p in model.parameters()])
    model.zero_grad()
    with pyro.plate("particles", 5, dim=-2):
        trace = poutine.trace(poutine.condition(model, data=particles)).get_trace(x, y)
    log_prob = trace.nodes["y"]["fn"].log_prob(y)
    (-torch.logsumexp(log_prob, 0).sum()).backward()
    for g4, g5, parameter in zip(*gradients, model.parameters(), strict=True):
        assert torch.allclose(g4, parameter.grad, atol=1e-12)
        assert torch.allclose(g5, parameter.grad, atol=1e-12)


def test_estimates_of_the_likelihood_are_unbiased():
    model = HybridSFNN([3, 4, 4, 2], stochastic=2)
    x, y = torch.rand(3, 3), torch.rand(3, 2).round()
    many = x.repeat(2000, 1), y.repeat(2000, 1)
    estimates = log_likelihood(model, *many, num_particles=10, batch_size=6000)
    assert unbiased(estimates, exact_log_likelihood(model, x, y))


def test_predictive_samples_outputs():
    model = HybridSFNN([3, 4, 2], stochastic=2)
    samples = Predictive(model, num_samples=7, parallel=True)(torch.rand(5, 3))["y"]
    assert samples.shape == (7, 5, 2)


@pytest.mark.parametrize("stochastic", [0, 4, -1])
def test_refuses_layers_without_both_kinds(stochastic):
    with pytest.raises(ValueError, match=f"stochastic={stochastic}: each hidden layer"):
        HybridSFNN([3, 4, 4, 2], stochastic=stochastic)
