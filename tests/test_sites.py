import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from sfnn_pyro.particles import PARTICLE_PLATE, trace_program
from sfnn_pyro.sites import JoinedTerm, Layout, sample_sites


def layout_of(program, nesting, m=4):
    trace = trace_program(program, (), {}, num_particles=m, plate_nesting=nesting)
    sites = sample_sites(trace)
    layout = Layout.of(sites, nesting, PARTICLE_PLATE)
    return layout, {site["name"]: layout.term(site) for site in sites}


def nested():
    with pyro.plate("outer", 20, subsample_size=5, dim=-2):
        pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
        with pyro.plate("inner", 30, subsample_size=3, dim=-1):
            pyro.sample("y", dist.Normal(torch.zeros(()), 1.0))


def test_inner_plates_are_summed_and_their_own_scale_stays_inside():
    layout, terms = layout_of(nested, 2)
    assert layout.scale == 4.0 and layout.sum_dims == (-1,)
    assert terms["z"].log_prob().shape == (4, 5, 1)
    y = terms["y"]
    assert y.log_prob().shape == (4, 5, 1)
    by_hand = 10 * dist.Normal(0.0, 1.0).log_prob(y.value).sum(-1, keepdim=True)
    assert torch.allclose(y.log_prob(), by_hand)


def test_a_scale_around_everything_is_outside_and_one_at_a_site_inside():
    def program(inside, outside):
        with pyro.plate("data", 3), poutine.scale(scale=outside):
            pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            with poutine.scale(scale=inside):
                pyro.sample("y", dist.Normal(torch.zeros(()), 1.0))

    layout, _ = layout_of(lambda: program(1.0, 0.25), 1)
    assert layout.scale == 0.25
    layout, terms = layout_of(lambda: program(2.0, 1.0), 1)
    assert layout.scale == 1.0 and terms["y"].scale == 2.0
    weights = torch.tensor([1.0, 2.0, 3.0])
    layout, terms = layout_of(lambda: program(1.0, weights), 1)
    assert torch.equal(layout.scale, weights)
    layout, terms = layout_of(lambda: program(weights, 1.0), 1)
    assert layout.scale == 1.0 and torch.equal(terms["y"].scale, weights)
    layout, terms = layout_of(lambda: program(weights, weights), 1)
    assert torch.equal(terms["y"].scale, weights**2)


def test_a_tensor_scale_over_a_summed_plate_stays_inside():
    weights = torch.tensor([1.0, 2.0])

    def program():
        with pyro.plate("outer", 3, dim=-2), poutine.scale(scale=weights):
            with pyro.plate("inner", 2, dim=-1):
                pyro.sample("y", dist.Normal(torch.zeros(()), 1.0))
            with pyro.plate("other", 2, dim=-1):
                pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))

    layout, terms = layout_of(program, 2)
    assert layout.scale == 1.0 and layout.sum_dims == (-1,)
    assert torch.equal(terms["y"].scale, weights)


def test_no_sites_at_all():
    layout = Layout.of([], 0, PARTICLE_PLATE)
    assert layout.scale == 1.0


@pytest.mark.parametrize("event_dim", [0, 1, 2])
@pytest.mark.parametrize("touched", [True, False])
def test_weighted_is_the_gradient_of_the_weighted_log_probability(event_dim, touched):
    """Through the kernel of a layer of units, and through the log-probability itself."""
    from sfnn_pyro.reparam import UnitsReparam

    shape = (5, *(3, 2)[:event_dim])
    logits = torch.randn(shape, requires_grad=True)
    mask = torch.tensor([True, False, True, True, True])

    def program():
        with pyro.plate("data", 5), poutine.mask(mask=mask):
            pyro.sample("h", dist.Bernoulli(logits=logits).to_event(event_dim))

    trace = trace_program(
        program,
        (),
        {},
        num_particles=4,
        plate_nesting=1,
        strategy=lambda site: UnitsReparam(),
    )
    sites = sample_sites(trace)
    term = Layout.of(sites, 1, PARTICLE_PLATE).term(sites[0])
    coefficient = torch.randn(4, 5)
    if touched:
        term.log_prob()
    (measured,) = torch.autograd.grad(term.weighted(coefficient), logits)
    h, weight = sites[0]["value"], (coefficient * mask).reshape(4, 5, *(1,) * event_dim)
    expected = (weight * (h - torch.sigmoid(logits))).sum(0)
    assert torch.allclose(measured, expected)
    assert torch.equal(term.scaled(2.0).expand(5), 2.0 * mask)


def test_joined_terms_pad_missing_dimensions():
    class Flat:
        has_path = False

        def __init__(self, value):
            self.value = value

        def log_prob(self):
            return self.value

    joined = JoinedTerm([[Flat(torch.tensor(1.0))], [Flat(torch.tensor(2.0))]], 2, False)
    assert joined.log_prob().shape == (2, 1, 1)
    assert joined.weighted(torch.ones(2, 3, 1)).item() == 9.0
