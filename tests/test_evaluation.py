import pyro
import pyro.distributions as dist
import pytest
import torch

from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.evaluation.exact import exact_log_likelihood
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
from tests.estimators.expectation import Queue
from tests.statistics import unbiased


@pytest.fixture
def problem():
    model = SFNN([3, 4, 2, 5])
    torch.nn.init.normal_(model.layers[2].weight)
    return model, torch.randn(7, 3), torch.rand(7, 5).round()


def test_streaming_equals_unstreamed_on_the_same_particles(problem):
    model, x, y = problem
    h1, h2 = torch.rand(9, 7, 4).round(), torch.rand(9, 7, 2).round()
    with Queue({"h1": [h1], "h2": [h2]}):
        whole = log_likelihood(model, x, y, num_particles=9, batch_size=100, particle_chunk=100)
    queue = {}
    for name, h in (("h1", h1), ("h2", h2)):
        pieces = []
        for start, stop in ((0, 3), (3, 6), (6, 7)):
            pieces += [h[0:3, start:stop], h[3:6, start:stop], h[6:9, start:stop]]
        queue[name] = pieces
    forced = Queue(queue)
    with forced:
        parts = log_likelihood(model, x, y, num_particles=9, batch_size=3, particle_chunk=4)
    assert not any(forced.values.values())
    assert torch.allclose(whole, parts, atol=1e-12)


@pytest.mark.parametrize("kind", ["prior", "recognition", "mixture"])
def test_is_unbiased_before_the_logarithm(problem, kind):
    model, x, y = problem
    prior, recognition = PriorProposal(model), RecognitionNetwork(model)
    guide = {"prior": None, "recognition": recognition}.get(
        kind, MixtureProposal(prior, recognition)
    )
    many = x.repeat(2000, 1), y.repeat(2000, 1)
    estimates = log_likelihood(
        model, *many, guide=guide, num_particles=11, particle_chunk=4, batch_size=5000
    )
    assert unbiased(estimates, exact_log_likelihood(model, x, y))


def test_is_not_scaled_by_subsampling_and_reports_progress(problem):
    model, x, y = problem
    scaled = SFNN([3, 4, 2, 5], data_size=700)
    scaled.load_state_dict(model.state_dict())
    seen = []
    torch.manual_seed(1)
    one = log_likelihood(model, x, y, num_particles=3)
    torch.manual_seed(1)
    other = log_likelihood(scaled, x, y, num_particles=3, on_batch=seen.append, batch_size=100)
    assert torch.allclose(one, other)
    assert seen == [7]
    log_likelihood(scaled, x, y, num_particles=3, on_batch=seen.append, batch_size=3)
    assert seen == [7, 3, 3, 1]
    assert not one.requires_grad


def coins(y, spread=1.0, table=None):
    """A coin and its noisy observations, two of each datapoint."""
    with pyro.plate("data", len(y), dim=-2):
        h = pyro.sample("h", dist.Bernoulli(torch.tensor(0.3)))
        with pyro.plate("inner", 2, dim=-1):
            pyro.sample("y", dist.Normal(h, spread), obs=y)


def test_one_particle_of_the_posterior_gives_the_exact_likelihood():
    y = torch.randn(5, 2)
    log_y = torch.stack([dist.Normal(h, 1.0).log_prob(y).sum(-1) for h in (0.0, 1.0)])
    joint = log_y + torch.tensor([[0.7], [0.3]]).log()

    def posterior(y, spread, table):
        assert spread == 1.0 and len(table) == 3  # what is no tensor is not cut
        log_y = torch.stack([dist.Normal(h, 1.0).log_prob(y).sum(-1) for h in (0.0, 1.0)])
        logits = (log_y[1] - log_y[0] + torch.tensor(0.3).logit()).unsqueeze(-1)
        with pyro.plate("data", len(y), dim=-2):
            pyro.sample("h", dist.Bernoulli(logits=logits))

    found = log_likelihood(coins, y, 1.0, [1, 2, 3], guide=posterior, num_particles=1, batch_size=2)
    assert found.shape == (5,)
    assert torch.allclose(found, torch.logsumexp(joint, 0))


def test_nan_in_the_data_is_an_error_and_nan_in_the_model_a_result():
    def model(x, shift=0.0):
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Bernoulli(torch.tensor(0.5)))
            loc = x * h + shift
            pyro.sample("y", dist.Normal(loc, 1.0, validate_args=False), obs=torch.zeros(len(x)))

    x = torch.tensor([1.0, torch.nan])
    with pytest.raises(ValueError, match="argument 1 of the model holds NaN"):
        log_likelihood(model, x)
    assert log_likelihood(model, torch.ones(2), torch.nan).isnan().all()


def test_what_the_model_does_not_use_may_be_nan(problem):
    model, x, y = problem
    estimate = log_likelihood(lambda x, y, note: model(x, y), x, y, torch.full((7,), torch.nan))
    assert estimate.isfinite().all()


def test_a_continuous_model():
    def model(y):
        with pyro.plate("data", len(y)):
            u = pyro.sample("u", dist.Normal(torch.tensor(0.0), 1.0))
            pyro.sample("y", dist.Normal(u, 1.0), obs=y)

    y = torch.tensor([0.3, -1.0])
    estimates = log_likelihood(model, y.repeat(4000), num_particles=5, batch_size=8000)
    assert unbiased(estimates, dist.Normal(0.0, 2**0.5).log_prob(y))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_particles": 0}, "num_particles=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"particle_chunk": 0}, "particle_chunk=0"),
    ],
)
def test_counts_below_one(problem, arguments, message):
    model, x, y = problem
    with pytest.raises(ValueError, match=message):
        log_likelihood(model, x, y, **arguments)


def test_datapoints_must_agree(problem):
    model, x, y = problem
    with pytest.raises(ValueError, match=r"have \[6, 7\] datapoints"):
        log_likelihood(model, x, y[:6])
    with pytest.raises(ValueError, match=r"have \[0\] datapoints"):
        log_likelihood(model, x[:0], y[:0])


def test_weights_must_be_per_datapoint():
    def model(y):
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    with pytest.raises(ValueError, match="every latent site must lie in the data plate"):
        log_likelihood(model, torch.zeros(3))


def test_a_tensor_of_one_number_is_no_datapoints():
    def model(y, loc):
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(loc, 1.0), obs=y)

    y = torch.arange(3.0)
    got = log_likelihood(model, y, torch.tensor(2.0), num_particles=2, batch_size=2)
    torch.testing.assert_close(got, dist.Normal(2.0, 1.0).log_prob(y))
