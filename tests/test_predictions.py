import pyro
import pyro.distributions as dist
import pytest
import torch

from sfnn_pyro.evaluation.predictions import (
    binary_entropy,
    predictive_mean,
    squared_error,
    unit_probabilities,
)
from sfnn_pyro.models import SFNN, HybridSFNN
from sfnn_pyro.reparam import deterministic
from tests.enumeration import joint_states, sfnn_log_probs
from tests.statistics import same_mean


def exact_mean(model, x):
    """By a loop over hidden configurations, with the output layer applied by hand."""
    total = torch.zeros(len(x), model.sizes[-1])
    output = model.layers[-1]
    transform = {
        "bernoulli": torch.sigmoid,
        "gaussian": lambda o: o,
        "categorical": lambda o: torch.softmax(o, -1),
    }[model.likelihood]
    bernoulli = SFNN(model.sizes)
    bernoulli.load_state_dict(model.state_dict())
    y = torch.zeros(len(x), model.sizes[-1])
    for h in joint_states({"h1": 3, "h2": 2}):
        _, log_prior = sfnn_log_probs(bernoulli, x, y, h)
        mean = transform(h["h2"] @ output.weight.T + output.bias)
        total = total + log_prior.exp()[:, None] * mean
    return total


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "gaussian"])
def test_the_mean_over_particles_is_the_exact_one_in_the_mean(likelihood):
    model = SFNN([2, 3, 2, 4], likelihood)
    x = torch.rand(5, 2)
    means = predictive_mean(model, x.repeat(2000, 1), num_particles=10, batch_size=3000)
    assert same_mean(means.reshape(2000, 5, 4), exact_mean(model, x))


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "gaussian"])
def test_a_deterministic_network_has_one_mean_whatever_m_is(likelihood):
    model = deterministic(SFNN([2, 3, 4], likelihood))
    x = torch.rand(5, 2)
    one, many = (predictive_mean(model, x, num_particles=m) for m in (1, 7))
    assert one.shape == (5, 4) and torch.allclose(one, many)


def test_squared_error_of_many_particles_is_their_soft_minimum():
    errors = torch.tensor([3.0, 1.0, 8.0])
    constant = torch.log(torch.tensor(2 * torch.pi))
    log_prob = torch.logsumexp(-errors / 2 - 4 / 2 * constant, 0) - torch.log(torch.tensor(3.0))
    soft = -2 * (-errors / 2).exp().mean().log()
    assert torch.allclose(squared_error(log_prob, outputs=4), soft)
    assert errors.min() < soft < errors.mean()


def test_probabilities_of_the_units_of_every_layer():
    model = HybridSFNN([3, 4, 5, 2], stochastic=2)
    found = unit_probabilities(model, torch.rand(6, 3))
    assert {name: tuple(p.shape) for name, p in found.items()} == {"h1": (6, 2), "h2": (6, 2)}
    coins = unit_probabilities(HybridSFNN([3, 4, 2], stochastic=2, learned=False), torch.rand(6, 3))
    assert torch.equal(coins["h1"], torch.full((6, 2), 0.5))


def test_entropy_is_symmetric_and_finite_at_the_ends():
    p = torch.linspace(0, 1, 11)
    assert torch.allclose(binary_entropy(p), binary_entropy(1 - p))
    assert binary_entropy(p).max() == binary_entropy(torch.tensor(0.5)) == 1


@pytest.mark.parametrize("counts", [{"num_particles": 0}, {"batch_size": 0}])
def test_refuses_counts_below_one(counts):
    with pytest.raises(ValueError, match="must be at least 1"):
        predictive_mean(SFNN([2, 3, 2]), torch.rand(1, 2), **counts)
    with pytest.raises(ValueError, match="0 datapoints"):
        predictive_mean(SFNN([2, 3, 2]), torch.rand(0, 2))


@pytest.mark.parametrize("batch_size", [2, 3, 4, 100])
def test_rows_in_any_plate_and_sites_in_further_ones(batch_size):
    x = torch.arange(4.0).unsqueeze(-1)

    def rows_last(x):
        with pyro.plate("columns", 2, dim=-2), pyro.plate("rows", len(x), dim=-1):
            pyro.sample("y", dist.Normal(x[:, 0], 1.0))

    def rows_first(x):
        with pyro.plate("rows", len(x), dim=-2), pyro.plate("columns", 2, dim=-1):
            pyro.sample("y", dist.Normal(x, 1.0))

    def others_in_further_plates(x):
        with pyro.plate("rows", len(x), dim=-1):
            with pyro.plate("columns", 2, dim=-2):
                pyro.sample("h", dist.Bernoulli(0.5))
            pyro.sample("y", dist.Normal(x, 1.0).to_event(1))

    both = x.expand(4, 2)
    wanted = {rows_last: both.T, rows_first: both, others_in_further_plates: x}
    for program, right in wanted.items():
        mean = predictive_mean(program, x, num_particles=3, batch_size=batch_size)
        torch.testing.assert_close(mean, right)
