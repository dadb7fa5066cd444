"""The gradient of K particles is that of M with the weights that ``resample`` gave them.

Its expectation over which are kept is then the plain estimator's: tests/test_resampling.py.
"""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import SGD

from sfnn_pyro.estimators import (
    G1,
    G2,
    G3,
    G4,
    G5,
    OVIS,
    VIMCO,
    Coefficients,
    GumbelStraightThrough,
    Lazy,
    Resampled,
    ReweightedWakeSleep,
)
from sfnn_pyro.estimators.wrappers import resampled as resampled_module
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN, HybridSFNN
from sfnn_pyro.particles.resampling import resample

M, K = 9, 3


def gradients(elbo, model, guide, args):
    """Loss and gradients; equal seeds draw equal particles, with and without ``Resampled``."""
    torch.manual_seed(3)
    loss = elbo.loss_and_grads(model, guide, *args)
    pairs = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
    found = {name: p.grad.clone() for name, p in pairs}
    model.zero_grad()
    return loss, found


@pytest.fixture
def kept(monkeypatch):
    """What ``resample`` last chose, as weights of all M particles."""
    chosen = {}

    def watched(weight, count, uniform):
        index, found = resample(weight, count, uniform)
        chosen["weight"] = torch.zeros_like(weight).scatter_add_(0, index, found)
        return index, found

    monkeypatch.setattr(resampled_module, "resample", watched)
    return chosen


def with_weights(estimator, weight):
    """The estimator, with other coefficients at the terms that have one."""
    plain = estimator(M)

    def coefficients(log_weight):
        own = type(plain).coefficients(plain, log_weight)
        return Coefficients(weight, None if own.latent is None else weight)

    plain.coefficients = coefficients
    return plain


def assert_same(estimator, model, guide, args, kept):
    loss, found = gradients(Resampled(estimator(M), K), model, guide, args)
    loss_of_all, expected = gradients(with_weights(estimator, kept["weight"]), model, guide, args)
    assert loss == pytest.approx(loss_of_all, rel=1e-13)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-11, atol=1e-13), name


@pytest.fixture
def data():
    return torch.randn(6, 3), torch.rand(6, 5).round()


@pytest.mark.parametrize("estimator", [G2, G3, G4])
@pytest.mark.parametrize("network", [SFNN, HybridSFNN])
def test_gradient_is_that_of_the_weights_kept(estimator, network, data, kept):
    options = {"stochastic": 2} if network is HybridSFNN else {}
    model = network([3, 6, 4, 5], **options)
    assert_same(estimator, model, PriorProposal(model), data, kept)


@pytest.mark.parametrize("mixed", [False, True])
def test_any_proposal_of_g4(data, kept, mixed):
    model = SFNN([3, 6, 4, 5])
    guide = recognition = RecognitionNetwork(model)
    if mixed:
        guide = MixtureProposal(PriorProposal(model), recognition)
    assert_same(G4, model, guide, data, kept)
    assert all(p.grad is None or not p.grad.any() for p in recognition.parameters())


class Chain(pyro.nn.PyroModule):
    """Three binary states for each of a subsample of people, seen through their own noise."""

    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.randn(3))
        self.effect = torch.nn.Parameter(torch.randn(()))

    def forward(self, y):
        people = pyro.plate("people", 7, subsample_size=4, dim=-1)
        with people as rows, pyro.plate("times", 3, dim=-2):
            h = pyro.sample("h", dist.Bernoulli(logits=self.logits[:, None]))
            pyro.sample("y", dist.Normal(self.effect * h, 1.0), obs=y[:, rows])


@pytest.mark.parametrize("estimator", [G3, G4])
def test_further_plates_and_subsampling(estimator, kept):
    model = Chain()
    assert_same(estimator, model, PriorProposal(model), [torch.randn(3, 7)], kept)


def test_one_weight_for_a_latent_outside_the_data_plate(kept):
    logit = torch.nn.Parameter(torch.zeros(()))

    class Shared(pyro.nn.PyroModule):
        def __init__(self):
            super().__init__()
            self.logit = logit

        def forward(self, y):
            h = pyro.sample("h", dist.Bernoulli(logits=self.logit))
            with pyro.plate("data", len(y), dim=-1):
                each = pyro.sample("each", dist.Bernoulli(logits=h - 0.5))
                pyro.sample("y", dist.Normal(each + h, 1.0), obs=y)

    model = Shared()
    assert_same(G4, model, PriorProposal(model), [torch.randn(5)], kept)


def test_continuous_latents_are_held_constant_by_g4_and_refused_by_g3(kept):
    class Mixed(pyro.nn.PyroModule):
        def __init__(self):
            super().__init__()
            self.loc = torch.nn.Parameter(torch.randn(()))

        def forward(self, y):
            with pyro.plate("data", len(y)):
                z = pyro.sample("z", dist.Normal(self.loc, 1.0))
                pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    model, y = Mixed(), torch.randn(5)
    assert_same(G4, model, PriorProposal(model), [y], kept)
    with pytest.raises(ValueError, match="site 'z': a Normal drawn before has no path"):
        Resampled(G3(M), K).loss_and_grads(model, PriorProposal(model), y)


def test_impossible_observations_leave_no_nan(kept):
    class Certain(pyro.nn.PyroModule):
        def __init__(self):
            super().__init__()
            self.logit = torch.nn.Parameter(torch.zeros(()))

        def forward(self, y):
            with pyro.plate("data", len(y)):
                h = pyro.sample("h", dist.Bernoulli(logits=self.logit))
                pyro.sample("y", dist.Bernoulli(0.5 * h, validate_args=False), obs=y)

    torch.manual_seed(0)
    model = Certain()
    elbo = Resampled(G4(4), 3)  # of four particles seldom three are possible
    for _ in range(20):
        elbo.loss_and_grads(model, PriorProposal(model), torch.ones(4))
        assert torch.isfinite(model.logit.grad)


def test_usable_in_svi_and_as_a_module(data):
    model = SFNN([3, 6, 4, 5])
    elbo = Resampled(G3(M), K)
    before = [p.clone() for p in model.parameters()]
    SVI(model, PriorProposal(model), SGD({"lr": 0.1}), elbo).step(*data)
    assert not any(map(torch.equal, before, model.parameters()))
    torch.manual_seed(3)
    (2 * elbo(model, PriorProposal(model))(*data)).backward()
    twice = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    _, once = gradients(elbo, model, PriorProposal(model), data)
    _, lazy = gradients(Lazy(elbo), model, PriorProposal(model), data)
    for name, gradient in once.items():
        assert torch.allclose(twice[name], 2 * gradient, rtol=1e-12)
        assert torch.equal(lazy[name], gradient)
    assert elbo.loss(model, PriorProposal(model), *data) > 0
    assert "h1" in poutine.trace(model).get_trace(*data).nodes


def test_one_particle_may_be_kept(data, kept):
    model = SFNN([3, 6, 4, 5])
    elbo = Resampled(G3(M), 1)
    assert elbo.num_particles == M
    elbo.loss_and_grads(model, PriorProposal(model), *data)
    assert (kept["weight"] > 0).sum(0).tolist() == [1] * 6


def test_an_elbo_of_pyro_is_refused():
    with pytest.raises(ValueError, match="Trace_ELBO weights particles by more"):
        Resampled(Trace_ELBO(num_particles=M, vectorize_particles=True), K)


@pytest.mark.parametrize("estimator", [G1, G5, VIMCO, OVIS, GumbelStraightThrough])
def test_estimators_that_need_every_particle_are_refused(estimator):
    with pytest.raises(ValueError, match=f"{estimator.__name__} weights particles by more"):
        Resampled(estimator(M), K)


def test_wake_sleep_is_refused():
    with pytest.raises(ValueError, match="ReweightedWakeSleep"):
        Resampled(ReweightedWakeSleep(M), K)


@pytest.mark.parametrize("count", [0, M, M + 1])
def test_a_number_of_particles_that_cannot_be_kept(count):
    with pytest.raises(ValueError, match=f"kept={count}: must be at least 1 and less than"):
        Resampled(G3(M), count)


def test_particles_one_after_the_other_are_refused():
    with pytest.raises(ValueError, match="vectorize_particles"):
        Resampled(G3(M, vectorize_particles=False), K)
