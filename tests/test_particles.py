import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
from sfnn_pyro.particles import (
    Fixed,
    draw_particles,
    guess_plate_nesting,
    proposal_kind,
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
