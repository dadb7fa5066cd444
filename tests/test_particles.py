import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
from sfnn_pyro.particles import (
    Component,
    Fixed,
    MixtureOf,
    draw_particles,
    guess_plate_nesting,
    proposal_kind,
    same_program,
    total_log_prob,
    trace_program,
)
from tests.enumeration import sfnn_log_probs


@pytest.fixture
def problem():
    model = SFNN([3, 4, 2, 5])
    return model, torch.randn(6, 3), torch.rand(6, 5).round()


def draw(model, guide, *args, m=7, nesting=1, **options):
    return draw_particles(
        model,
        guide,
        args,
        {},
        num_particles=m,
        plate_nesting=nesting,
        strategy=lambda site: None,
        **options,
    )


def test_prior_weights_are_the_likelihood_and_the_model_runs_once(problem):
    model, x, y = problem
    runs = []

    def counted(x, y):
        runs.append(1)
        return model(x, y)

    particles = draw(counted, PriorProposal(counted), x, y)
    assert runs == [1]
    assert particles.is_prior and particles.proposal is None
    for m in range(7):
        h = {term.name: term.value[m] for term in particles.latent}
        log_y, log_h = [], []
        for b in range(6):
            one = {name: value[b] for name, value in h.items()}
            likelihood, prior = sfnn_log_probs(model, x[b : b + 1], y[b : b + 1], one)
            log_y.append(likelihood)
            log_h.append(prior)
        assert torch.allclose(particles.log_weight()[m], torch.cat(log_y))
        assert torch.allclose(total_log_prob(particles.latent)[m], torch.cat(log_h))


def test_a_guides_weights_have_three_terms(problem):
    model, x, y = problem
    guide = RecognitionNetwork(model)
    particles = draw(model, guide, x, y)
    assert not particles.is_prior
    parts = (particles.observed, particles.latent, particles.proposal)
    log_y, log_h, log_r = map(total_log_prob, parts)
    assert torch.allclose(particles.log_weight(), log_y + log_h - log_r)
    values = {term.name: term.value for term in particles.proposal}
    for term in particles.latent:
        assert torch.equal(term.value, values[term.name])


def test_permuting_particles_changes_nothing(problem):
    model, x, y = problem
    particles = draw(model, PriorProposal(model), x, y)
    order = torch.randperm(7)
    permuted = particles.redraw({term.name: term.value[order] for term in particles.latent})
    assert torch.equal(permuted.log_weight(), particles.log_weight()[order])


@pytest.mark.parametrize("vectorize", [True, False])
def test_components_of_a_mixture(problem, vectorize):
    model, x, y = problem
    mixture = MixtureProposal(PriorProposal(model), RecognitionNetwork(model), 0.3)
    particles = draw(model, mixture, x, y, m=10, vectorize=vectorize)
    first, second = particles.components
    assert (first.first, first.last, second.first, second.last) == (0, 3, 3, 10)
    assert torch.equal(total_log_prob(first.terms), total_log_prob(particles.latent))
    coefficient = torch.rand(10, 6)
    assert torch.equal(first.own(coefficient) + second.own(coefficient), coefficient)
    assert not first.own(coefficient)[3:].any()
    assert particles.log_weight().shape == (10, 6)


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("vectorize", [True, False])
def test_the_priors_density_is_never_in_the_weights(problem, m, vectorize):
    model, x, y = problem
    particles = draw(model, PriorProposal(model), x, y, m=m, vectorize=vectorize)
    assert particles.is_prior and particles.num_particles == m
    assert torch.equal(particles.log_weight(), total_log_prob(particles.observed))
    guided = draw(model, RecognitionNetwork(model), x, y, m=m, vectorize=vectorize)
    assert not guided.is_prior and guided.log_weight().shape == (m, 6)


class Shares(MixtureOf):
    """A mixture as draw_particles knows it: guides, and how many particles each draws."""

    def __init__(self, components, sizes):
        self.guides, self.sizes = components, sizes

    @property
    def components(self):
        return self.guides

    def counts(self, num_particles):
        assert num_particles == sum(self.sizes)
        return self.sizes


def coin(p):
    def guide(y):
        with pyro.plate("data", len(y)):
            pyro.sample("h", dist.Bernoulli(torch.tensor(p)))

    return guide


def coins(y):
    with pyro.plate("data", len(y)):
        h = pyro.sample("h", dist.Bernoulli(torch.tensor(0.3)))
        pyro.sample("y", dist.Normal(h, 1.0), obs=y)


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize("sizes", [(1, 3), (3, 1), (2, 1, 1), (1, 2, 3), (0, 4), (2, 0, 2)])
def test_every_guide_of_a_mixture_draws_its_share_and_weighs_by_it(sizes, vectorize):
    """Guides that always draw 0, 1, 0: what each particle is tells who drew it."""
    y = torch.tensor([0.5, -0.5])
    guides = [coin(0.0), coin(1.0), coin(0.0)][: len(sizes)]
    m = sum(sizes)
    particles = draw(coins, Shares(guides, sizes), y, m=m, vectorize=vectorize)
    owner = torch.tensor([k for k, size in enumerate(sizes) for _ in range(size)])
    (observed,) = particles.observed
    log_y = dist.Normal((owner == 1).double().unsqueeze(-1), 1.0).log_prob(y)
    assert torch.allclose(observed.log_prob(), log_y)
    assert [(c.first, c.last) for c in particles.components] == [
        (sum(sizes[:k]), sum(sizes[: k + 1])) for k in range(len(sizes))
    ]
    ones = sizes[1] / m
    joint = log_y.exp() * torch.where(owner == 1, 0.3, 0.7).unsqueeze(-1)
    expected = joint / torch.where(owner == 1, ones, 1 - ones).unsqueeze(-1)
    assert torch.allclose(particles.log_weight().exp(), expected)
    (mixture,) = particles.proposal
    assert mixture.log_prob() is mixture.log_prob()


def test_a_mixture_of_latents_outside_every_plate_one_after_the_other():
    def model(y):
        h = pyro.sample("h", dist.Bernoulli(torch.tensor(0.3)))
        pyro.sample("y", dist.Normal(h, 1.0), obs=y)

    def guide(y):
        pyro.sample("h", dist.Bernoulli(torch.tensor(1.0)))

    y, mixture = torch.tensor(0.5), Shares([guide, guide], (1, 2))
    particles = draw(model, mixture, y, m=3, nesting=0, vectorize=False)
    expected = dist.Normal(1.0, 1.0).log_prob(y) + torch.tensor(0.3).log()
    assert torch.allclose(particles.log_weight(), expected.expand(3))


@pytest.mark.parametrize(("first", "last"), [(0, 5), (0, 2), (2, 5), (2, 3), (1, 4), (3, 3)])
def test_a_coefficient_is_zero_at_the_particles_of_others(first, last):
    coefficient = torch.rand(5, 2)
    own = Component([], first, last, False).own(coefficient)
    mine = (torch.arange(5) >= first) & (torch.arange(5) < last)
    assert torch.equal(own, coefficient * mine.unsqueeze(-1))


def test_proposal_kinds(problem):
    model, _, _ = problem
    prior, guide = PriorProposal(model), RecognitionNetwork(model)
    assert proposal_kind(prior, model) == "prior"
    assert proposal_kind(prior, SFNN([3, 2, 2])) == "guide"
    assert proposal_kind(guide, model) == "guide"
    assert proposal_kind(MixtureProposal(prior, guide), model) == "mixture"


def test_check_is_called_for_every_learned_guide(problem):
    model, x, y = problem
    guide = RecognitionNetwork(model)
    for proposal, count in (
        (PriorProposal(model), 1),
        (guide, 1),
        (MixtureProposal(PriorProposal(model), guide), 1),
        (MixtureProposal(guide, RecognitionNetwork(model)), 2),
    ):
        pyro.clear_param_store()
        calls = []
        draw(model, proposal, x, y, check=lambda *traces, calls=calls: calls.append(traces))
        assert len(calls) == count


def test_plate_nesting_is_guessed_without_moving_the_random_state(problem):
    model, x, y = problem
    guide = RecognitionNetwork(model)
    before = torch.get_rng_state()
    assert guess_plate_nesting(model, guide, (x, y), {}) == 1
    assert guess_plate_nesting(model, MixtureProposal(PriorProposal(model), guide), (x, y), {}) == 1
    assert torch.equal(torch.get_rng_state(), before)
    assert guess_plate_nesting(lambda: None, lambda: None, (), {}) == 0


def test_fixed_leaves_observed_sites_alone():
    def model():
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(3.0))
        return pyro.sample("h", dist.Normal(0.0, 1.0))

    with Fixed({"y": torch.tensor(1.0), "h": torch.tensor(2.0)}):
        trace = poutine.trace(model).get_trace()
    assert trace.nodes["y"]["value"] == 3 and trace.nodes["h"]["value"] == 2


def test_without_a_plate_there_is_no_particle_dimension(problem):
    model, x, y = problem
    trace = trace_program(model, (x, y), {}, num_particles=None, plate_nesting=1)
    assert trace.nodes["h1"]["value"].shape == (6, 4)


def test_two_callables_are_the_same_program_if_they_hold_the_same():
    first, second = SFNN([2, 2, 2]), SFNN([2, 2, 2])
    options = {"size": first}
    part = functools.partial(first, second, **options)
    same = [
        (PriorProposal(first), PriorProposal(first)),
        (first.forward, first.forward),
        (part, functools.partial(first, second, **options)),
    ]
    others = [
        (PriorProposal(first), PriorProposal(second)),
        (PriorProposal(first), first),
        (first.forward, second.forward),
        (first.forward, first.parameters),
        (first.forward, SFNN.forward),
        (SFNN.forward, first.forward),
        (part, first),
        (first, part),
        (part, functools.partial(second, second, **options)),
        (part, functools.partial(first, first, **options)),
        (part, functools.partial(first, **options)),
        (part, functools.partial(first, second)),
        (part, functools.partial(first, second, size=second)),
    ]
    assert all(same_program(a, b) is True for a, b in same)
    assert not any(same_program(a, b) for a, b in others)
