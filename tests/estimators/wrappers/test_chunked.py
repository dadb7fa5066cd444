"""Chunked particles give the gradient of all of them at once, in the memory of a chunk."""

import resource
from contextlib import nullcontext

import numpy
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from sfnn_pyro.estimators import G1, G3, G4, G5, VIMCO, Chunked
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN


class Recorder(poutine.messenger.Messenger):
    """Keeps what hidden layers drew, run after run."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def _pyro_post_sample(self, msg):
        if msg["name"].startswith("h"):
            self.drawn.append((msg["name"], msg["value"].detach()))


def gradients(model):
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    return found


@pytest.fixture
def problem():
    return SFNN([3, 4, 2, 5]), torch.randn(6, 3), torch.rand(6, 5).round()


@pytest.mark.parametrize("estimator", [G3, G4, G5, VIMCO])
@pytest.mark.parametrize("chunk", [1, 4, 9, 100])
def test_gradient_is_that_of_the_same_particles_at_once(problem, estimator, chunk):
    from tests.enumeration import Forced

    model, x, y = problem
    guide = PriorProposal(model)
    elbo = estimator(9, max_plate_nesting=1)
    with Recorder() as recorder:
        loss = Chunked(elbo, chunk).loss_and_grads(model, guide, x, y)
    chunked = gradients(model)
    first_pass = recorder.drawn[: len(recorder.drawn) // 2]
    second_pass = recorder.drawn[len(recorder.drawn) // 2 :]
    for (_, before), (_, after) in zip(first_pass, second_pass, strict=True):
        assert torch.equal(before, after)
    particles = {
        name: torch.cat([value for other, value in first_pass if other == name])
        for name in ("h1", "h2")
    }
    with Forced(particles):
        at_once = elbo.loss_and_grads(model, guide, x, y)
    assert loss == pytest.approx(at_once, rel=1e-13)
    assert torch.allclose(chunked, gradients(model), rtol=1e-11, atol=1e-13)


def test_differentiable_loss_and_recognition_network(problem):
    model, x, y = problem
    guide = RecognitionNetwork(model)
    elbo = Chunked(VIMCO(9, max_plate_nesting=1), 4)
    torch.manual_seed(1)
    elbo.loss_and_grads(model, guide, x, y)
    expected, expected_guide = gradients(model), gradients(guide)
    torch.manual_seed(1)
    loss = elbo.differentiable_loss(model, guide, x, y)
    (2 * loss).backward()
    assert torch.allclose(gradients(model), 2 * expected, rtol=1e-12)
    assert torch.allclose(gradients(guide), 2 * expected_guide, rtol=1e-12)
    torch.manual_seed(1)
    assert elbo.loss(model, guide, x, y) == pytest.approx(loss.item(), rel=1e-13)


def by_chunks_and_at_once(model, guide, *args, estimator=G4):
    """Losses and gradients of both ways of a chunked loss, from the same random state."""
    elbo, found = Chunked(estimator(6, max_plate_nesting=1), 4), []
    for differentiable in (True, False):
        torch.manual_seed(1)
        if differentiable:
            loss = elbo.differentiable_loss(model, guide, *args)
            loss.backward()
            loss = loss.item()
        else:
            loss = elbo.loss_and_grads(model, guide, *args)
            assert isinstance(loss, float)
        torch.manual_seed(1)
        alone = elbo.loss(model, guide, *args)
        assert isinstance(alone, float) and alone == pytest.approx(loss, rel=1e-13)
        stored = dict(pyro.get_param_store()._params)
        grads = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in stored.items()}
        found.append(grads)
        for p in stored.values():
            p.grad = None
    for name, grad in found[0].items():
        assert torch.allclose(grad, found[1][name], rtol=1e-11, atol=1e-13)
    return loss, found[0]


def test_parameters_that_get_no_gradient(problem):
    """A guide's under G4, and one that is frozen."""
    model, x, y = problem
    guide = RecognitionNetwork(model)
    model.layers[1].bias.requires_grad_(False)
    _, grads = by_chunks_and_at_once(model, guide, x, y)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name, grad in grads.items() if grad.any()} == names


def test_constrained_parameters_and_the_scale_of_a_minibatch():
    y = torch.randn(5)

    def model(y, size=5):
        spread = pyro.param("spread", torch.tensor(1.5), constraint=dist.constraints.positive)
        with pyro.plate("data", size, subsample_size=5, subsample=torch.arange(5)):
            h = pyro.sample("h", dist.Bernoulli(torch.tensor(0.4)))
            pyro.sample("y", dist.Normal(h, spread), obs=y)

    one, grads = by_chunks_and_at_once(model, PriorProposal(model), y)
    ten, tenfold = by_chunks_and_at_once(model, PriorProposal(model), y, 50)
    assert ten == pytest.approx(10 * one)
    assert torch.allclose(tenfold["spread"], 10 * grads["spread"]) and grads["spread"] != 0


def test_all_chunks_see_the_same_subsample():
    data = torch.randn(50)

    def model():
        shift = pyro.param("shift", torch.tensor(0.3))
        with pyro.plate("data", 50, subsample_size=7) as index:
            h = pyro.sample("h", dist.Bernoulli(logits=shift))
            pyro.sample("y", dist.Normal(h, 1.0), obs=data[index])

    elbo = Chunked(G5(6, max_plate_nesting=1), 2)
    seen = []

    class Indices(poutine.messenger.Messenger):
        def _pyro_post_sample(self, msg):
            if msg["name"] == "data":
                seen.append(msg["value"].clone())

    with Indices():
        elbo.loss_and_grads(model, PriorProposal(model))
    assert len(seen) == 6
    assert all(torch.equal(seen[0], other) for other in seen)


def test_refuses_what_it_cannot_divide(problem):
    model, x, y = problem
    with pytest.raises(ValueError, match="particle_chunk=0: must be at least 1"):
        Chunked(G5(4), 0)
    with pytest.raises(ValueError, match="G1 needs all its particles at once"):
        Chunked(G1(4), 2)
    mixture = MixtureProposal(PriorProposal(model), RecognitionNetwork(model))
    with pytest.raises(ValueError, match="cannot divide a mixture's shares"):
        Chunked(G4(4), 2).loss(model, mixture, x, y)


@pytest.mark.slow
def test_a_hundred_thousand_particles_need_the_memory_of_a_chunk():
    torch.set_default_dtype(torch.float32)
    model = SFNN([392, 200, 200, 392])
    x, y = torch.rand(1, 392).round(), torch.rand(1, 392).round()
    elbo = Chunked(G3(100_000, max_plate_nesting=1), 2_000)
    Chunked(G3(4_000, max_plate_nesting=1), 2_000).loss_and_grads(model, PriorProposal(model), x, y)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    elbo.loss_and_grads(model, PriorProposal(model), x, y)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024  # KiB; all particles at once would need 300,000


def noisy(choose, shift):
    """A coin and two rows of data: which ones, and how the mean is shifted, by functions."""

    def program(y):
        w = pyro.param("w", torch.tensor(0.3))
        rows = choose()
        with pyro.plate("data", 2):
            h = pyro.sample("h", dist.Bernoulli(logits=w))
            pyro.sample("y", dist.Normal(w * h + shift(), 1.0), obs=y[rows])

    return program


@pytest.mark.parametrize(
    ("choose", "shift", "chunk", "match"),
    [
        (lambda: torch.randperm(9)[:2], lambda: 0.0, 2, "site 'y' observes another value in chunk"),
        (lambda: numpy.random.choice(9, 2), lambda: 0.0, 6, "had other particles, observations"),
        (lambda: [0, 1], numpy.random.randn, 6, "had other particles, observations"),
        (lambda: [0, 1], lambda: 0.0, 2, None),
    ],
)
def test_rows_and_noise_that_the_program_draws_itself(choose, shift, chunk, match):
    program, y = noisy(choose, shift), torch.arange(9.0).square()
    with nullcontext() if match is None else pytest.raises(ValueError, match=match):
        for _ in range(3):  # rows may be the same by chance
            Chunked(VIMCO(6), chunk).loss_and_grads(program, PriorProposal(program), y)
