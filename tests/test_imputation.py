import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch

from sfnn_pyro.evaluation.exact import exact_log_likelihood
from sfnn_pyro.evaluation.imputation import impute
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
from tests.statistics import SIGMAS, unbiased

KNOWN = torch.tensor([True, False, True, False])


@pytest.fixture
def problem():
    model = SFNN([2, 2, 4])
    for p in model.parameters():
        torch.nn.init.normal_(p, std=1.5)
    return model, torch.randn(3, 2), torch.rand(3, 4).round()


def enumerated(model, x, y):
    """log P(y_known | x) and P(y_rest | y_known, x) of all four rests, by enumeration."""
    joint = []
    for rest in itertools.product([0.0, 1.0], repeat=2):
        whole = y.clone()
        whole[:, ~KNOWN] = torch.tensor(rest)
        joint.append(exact_log_likelihood(model, x, whole))
    joint = torch.stack(joint)  # (4, B)
    return torch.logsumexp(joint, 0), torch.softmax(joint, 0)


@pytest.mark.parametrize("kind", ["prior", "recognition", "mixture"])
def test_matches_enumeration(problem, kind):
    model, x, y = problem
    prior, recognition = PriorProposal(model), RecognitionNetwork(model, width=4)
    guide = {"prior": None, "recognition": recognition}.get(
        kind, MixtureProposal(prior, recognition)
    )
    log_known, rest = enumerated(model, x, y)
    many = x.repeat(2000, 1), y.repeat(2000, 1)
    few = impute(model, *many, KNOWN, guide=guide, num_particles=10, batch_size=6000, poor=0.0)
    assert unbiased(few.log_likelihood_known, log_known)
    whole = few.log_likelihood_known + few.log_likelihood_rest
    assert unbiased(whole, exact_log_likelihood(model, x, y))
    result = impute(model, x, y, KNOWN, guide=guide, num_particles=20_000, num_samples=20_000)
    assert torch.equal(result.samples[..., KNOWN], y[:, KNOWN].expand(20_000, -1, -1))
    index = (result.samples[..., ~KNOWN] @ torch.tensor([2.0, 1.0])).long()
    frequency = torch.stack([(index == k).double().mean(0) for k in range(4)])
    # The particles' variance is at most 1 / ESS, that of the samples drawn from them 1/4 of 1/N.
    error = (1 / result.effective_sample_size + 0.25 / 20_000).sqrt()
    assert ((frequency - rest).abs() < SIGMAS * error).all() and error.max() < 0.02


def test_nothing_known_is_the_prior_and_everything_known_is_given_back(problem):
    model, x, y = problem
    nothing = impute(model, x, y, torch.tensor(False), num_particles=50)
    assert torch.allclose(nothing.effective_sample_size, torch.full((3,), 50.0))
    assert torch.allclose(nothing.log_likelihood_known, torch.zeros(3))
    everything = impute(model, x, y, torch.tensor(True), num_particles=50, poor=0.0)
    assert torch.equal(everything.samples, y.expand(10, -1, -1))
    assert torch.allclose(everything.log_likelihood_rest, torch.zeros(3))


def test_batches_do_not_change_the_shapes(problem):
    model, x, y = problem
    result = impute(model, x, y, KNOWN, num_samples=5, batch_size=2, num_particles=100)
    assert result.samples.shape == (5, 3, 4)
    assert result.effective_sample_size.shape == (3,)


def test_warns_of_a_poor_effective_sample_size():
    model = SFNN([2, 12, 40])
    torch.nn.init.normal_(model.layers[1].weight, std=8.0)
    known = torch.arange(40) < 30
    with pytest.warns(RuntimeWarning, match=r"of 4 datapoints have an effective sample size below"):
        impute(model, torch.zeros(4, 2), torch.ones(4, 40), known, num_particles=50)


def test_labels_and_other_observed_sites():
    def model(x, y):
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Categorical(torch.tensor([0.5, 0.5])))
            pyro.sample("t", dist.Normal(h.to(x), 0.1), obs=x[:, 0])
            pyro.sample("y", dist.Categorical(torch.eye(2)[h] * 0.98 + 0.01), obs=y)

    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([1, 1])
    result = impute(model, x, y, torch.tensor(False), num_particles=500, num_samples=200)
    # A sample is the other label with probability 0.01: most of 200 are, less often than 1e-100.
    assert result.samples.double().mean(0).round().tolist() == [0.0, 1.0]
    # x tells h: a particle of the other state has the weight exp(-50).
    assert torch.allclose(result.log_likelihood_rest.exp(), torch.tensor([0.01, 0.99]), atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "num_samples=0"),
        ({"known": torch.zeros(3)}, "known has shape"),
        ({"site": "z"}, "the model observes no site of this name"),
    ],
)
def test_refusals(problem, arguments, message):
    model, x, y = problem
    with pytest.raises(ValueError, match=message):
        impute(model, x, y, **{"known": KNOWN, **arguments})


def test_elements_that_depend_on_each_other_cannot_be_masked():
    def model(x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("h", dist.Bernoulli(0.5))
            pyro.sample("y", dist.OneHotCategorical(torch.ones(3)), obs=y)

    with pytest.raises(ValueError, match="site 'y': the elements of a OneHotCategorical"):
        impute(model, torch.zeros(2, 1), torch.eye(3)[:2], torch.tensor([True, False, False]))


def test_latents_outside_the_data_plate_are_refused():
    def model(x, y):
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    with pytest.raises(ValueError, match="every latent site must lie in the data plate"):
        impute(model, torch.zeros(2, 1), torch.zeros(2), torch.tensor(False))
