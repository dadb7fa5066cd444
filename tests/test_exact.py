import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from sfnn_pyro.evaluation.exact import exact_log_likelihood, exact_objective
from sfnn_pyro.models import SFNN
from tests.enumeration import joint_states, sfnn_log_probs, states


def test_matches_a_loop_over_configurations():
    model = SFNN([2, 2, 3, 2])
    x, y = torch.rand(4, 2), torch.rand(4, 2).round()
    terms = [sum(sfnn_log_probs(model, x, y, h)) for h in joint_states({"h1": 2, "h2": 3})]
    expected = torch.logsumexp(torch.stack(terms), 0)
    assert torch.allclose(exact_log_likelihood(model, x, y, chunk=5), expected, atol=1e-12)


@pytest.mark.parametrize("width", [0, 3])
def test_probabilities_sum_to_one(width):
    model = SFNN([width, 3, 2, 3])
    y = states(3)
    x = torch.rand(1, width).expand(8, width)
    assert exact_log_likelihood(model, x, y).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_categorical_probabilities_sum_to_one():
    model = SFNN([2, 3, 5], "categorical")
    log_probs = exact_log_likelihood(model, torch.rand(1, 2).expand(5, 2), torch.arange(5))
    assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-12)


def nested(y):
    """Categorical outer latent, Bernoulli and one-hot inner latents, in nested plates."""
    with pyro.plate("data", 2, dim=-2):
        z = pyro.sample("z", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
        with pyro.plate("inner", 3, dim=-1):
            p = torch.tensor([0.1, 0.6, 0.8])[z]
            b = pyro.sample("b", dist.Bernoulli(p))
            k = pyro.sample("k", dist.OneHotCategorical(torch.tensor([0.4, 0.6])))
            pyro.sample("y", dist.Normal(b + k[..., 1], 1.0), obs=y)


def test_nested_plates():
    y = torch.randn(2, 3)
    total = torch.zeros(2)
    for z, pz in enumerate([0.2, 0.3, 0.5]):
        p = [0.1, 0.6, 0.8][z]
        inner = torch.zeros(2, 3)
        for b, pb in ((0, 1 - p), (1, p)):
            for k, pk in ((0, 0.4), (1, 0.6)):
                inner += pb * pk * dist.Normal(float(b + k), 1.0).log_prob(y).exp()
        total += pz * inner.prod(-1)
    assert torch.allclose(exact_log_likelihood(nested, y), total.log(), atol=1e-12)


def test_refuses_what_cannot_be_enumerated():
    with pytest.raises(ValueError, match="hidden configurations are more than max_states"):
        exact_log_likelihood(SFNN([2, 40, 2]), torch.zeros(1, 2), torch.zeros(1, 2))

    def continuous(y):
        z = pyro.sample("z", dist.Normal(0, 1))
        pyro.sample("y", dist.Normal(z, 1), obs=y)

    with pytest.raises(ValueError, match="site 'z': a Normal cannot be enumerated"):
        exact_log_likelihood(continuous, torch.tensor(0.0))


def test_theorem_1_example():
    """Two-by-two example of the paper: -0.30 with a stochastic unit, -0.52 with any other."""
    model = SFNN([1, 1, 1])
    hidden, output = model.layers
    x = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    y = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    logit = math.log(0.9 / 0.1)
    with torch.no_grad():
        output.weight.fill_(-2 * logit)  # P(y = 0 | h = 0) = 0.1, P(y = 0 | h = 1) = 0.9
        output.bias.fill_(logit)

        def criterion(p0, p1):
            a0, a1 = torch.logit(torch.tensor([p0, p1])).clamp(-1e4, 1e4)
            hidden.bias.fill_(a0)
            hidden.weight.fill_(a1 - a0)
            return exact_log_likelihood(model, x, y).mean().item() / math.log(10)

        assert criterion(0.5, 0.5) == pytest.approx(-0.30, abs=0.005)
        for a in (0.0, 1.0):
            for b in (0.0, 1.0):
                assert criterion(a, b) == pytest.approx(-0.52, abs=0.005)


def test_expected_objective_is_a_sum_over_tuples_and_tends_to_the_likelihood():
    model = SFNN([2, 2, 1, 3])
    torch.nn.init.normal_(model.layers[2].weight)
    x, y = torch.randn(3, 2), torch.rand(3, 3).round()
    pairs = [sfnn_log_probs(model, x, y, h) for h in joint_states({"h1": 2, "h2": 1})]
    total = torch.zeros(3)
    for log_y, log_h in pairs:
        for other_y, other_h in pairs:
            chat = torch.logaddexp(log_y, other_y) - math.log(2)
            total = total + (log_h + other_h).exp() * chat
    assert torch.allclose(exact_objective(model, x, y, num_particles=2, chunk=7), total)
    bounds = [exact_objective(model, x, y, num_particles=m).sum().item() for m in (1, 2, 4)]
    assert bounds == sorted(bounds)
    assert bounds[-1] < exact_log_likelihood(model, x, y).sum().item()
    with pytest.raises(ValueError, match="tuples of hidden configurations"):
        exact_objective(model, x, y, num_particles=8)
