import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from sfnn_pyro.particles import JoinedTerm, Layout, sample_sites, trace_program


def layout_of(program, nesting, m=4):
    trace = trace_program(program, (), {}, num_particles=m, plate_nesting=nesting)
    sites = sample_sites(trace)
    layout = Layout.of(sites, nesting)
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
    layout, terms = layout_of(lambda: program(2.0, 0.5), 1)
    assert layout.scale == 0.5 and (terms["z"].scale, terms["y"].scale) == (1.0, 2.0)
    layout, terms = layout_of(lambda: program(weights, weights), 1)
    assert torch.equal(layout.scale, weights) and torch.equal(terms["y"].scale, weights)


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


def test_a_tensor_scale_along_the_datapoints_is_outside_whatever_plates_are_summed():
    weights = torch.tensor([1.0, 2.0])

    def program():
        with pyro.plate("data", 2, dim=-1), poutine.scale(scale=weights):
            pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            with pyro.plate("further", 3, dim=-2):
                pyro.sample("y", dist.Normal(torch.zeros(()), 1.0))

    layout, terms = layout_of(program, 2)
    assert layout.sum_dims == (-2,) and torch.equal(layout.scale, weights)
    assert terms["y"].scale == 1.0


def test_sites_are_scaled_alike_only_if_all_are():
    """Whatever comes first, a number or a tensor, and however small the numbers are."""

    def program(first, second):
        with pyro.plate("data", 3):
            for name, scale in (("z", first), ("y", second)):
                with poutine.scale(scale=scale):
                    pyro.sample(name, dist.Normal(torch.zeros(()), 1.0))

    weights = torch.tensor([1.0, 2.0, 3.0])
    pairs = [(weights, 1.0), (1.0, weights), (1e-8, 2e-8), (1.0, 1.0 + 1e-9)]
    for first, second in pairs:
        layout, terms = layout_of(lambda one=first, two=second: program(one, two), 1)
        assert layout.scale == 1.0
        for name, scale in (("z", first), ("y", second)):
            expected = torch.as_tensor(scale)
            assert torch.allclose(torch.as_tensor(terms[name].scale), expected, rtol=1e-12, atol=0)
    layout, _ = layout_of(lambda: program(weights, weights.clone()), 1)
    assert torch.equal(layout.scale, weights)


def test_the_plates_of_the_first_site_need_not_be_those_of_all():
    def program():
        with pyro.plate("data", 4, dim=-2):
            with pyro.plate("inner", 3, dim=-1):
                pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("y", dist.Normal(torch.zeros(()), 1.0))

    layout, _ = layout_of(program, 2)
    assert layout.sum_dims == (-1,)


def test_a_sequential_plate_holds_no_datapoints():
    """Its subsampling is a factor like any other: outside if all sites carry it, else inside."""

    def program(inside):
        for i in pyro.plate("steps", 4, subsample_size=2):
            pyro.sample(f"z{i}", dist.Normal(torch.zeros(()), 1.0))
            with poutine.scale(scale=inside):
                pyro.sample(f"y{i}", dist.Normal(torch.zeros(()), 1.0))

    layout, _ = layout_of(lambda: program(1.0), 0)
    assert layout.scale == 2.0
    layout, terms = layout_of(lambda: program(3.0), 0)
    assert layout.scale == 2.0
    assert sorted(term.scale for term in terms.values()) == [1.0, 1.0, 3.0, 3.0]


def test_a_run_without_a_plate_of_particles_is_summed_to_one_number_per_datapoint():
    def program():
        pyro.sample("u", dist.Normal(torch.zeros(()), 1.0))
        with pyro.plate("other", 4, dim=-1):
            pyro.sample("v", dist.Normal(torch.zeros(()), 1.0))
        with pyro.plate("outer", 5, dim=-2):
            pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            with pyro.plate("inner", 3, dim=-1):
                pyro.sample("y", dist.Normal(torch.zeros(()), 1.0))

    trace = trace_program(program, (), {}, num_particles=None, plate_nesting=2)
    sites = sample_sites(trace)
    layout = Layout.of(sites, 2)
    assert layout.sum_dims == (-2, -1)
    for site, shape in zip(sites, ((), (1,), (1, 1), (1, 1)), strict=True):
        log_prob = layout.term(site).log_prob()
        assert log_prob.shape == shape
        assert torch.allclose(log_prob, site["fn"].log_prob(site["value"]).sum())


def test_log_probabilities_are_computed_once():
    _, terms = layout_of(nested, 2)
    joined = JoinedTerm([[terms["z"]], [terms["y"]]], 2)
    for term in (*terms.values(), joined):
        assert term.log_prob() is term.log_prob()


def test_a_coefficient_of_another_precision_is_taken_to_the_values():
    torch.set_default_dtype(torch.float32)
    _, terms = layout_of(nested, 2)
    y = terms["y"]
    y.scale = torch.tensor(2.0, dtype=torch.float64)
    assert y.weighted(torch.ones(4, 5, 1)).dtype == torch.float32


def test_no_sites_at_all():
    layout = Layout.of([], 0)
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
    term = Layout.of(sites, 1).term(sites[0])
    coefficient = torch.randn(4, 5)
    if touched:
        term.log_prob()
    (measured,) = torch.autograd.grad(term.weighted(coefficient), logits, retain_graph=True)
    h, weight = sites[0]["value"], (coefficient * mask).reshape(4, 5, *(1,) * event_dim)
    expected = (weight * (h - torch.sigmoid(logits))).sum(0)
    assert torch.allclose(measured, expected)
    # The score is of the law, which knows no mask.
    (score,) = torch.autograd.grad(term.weighted(None, coefficient), logits)
    weight = coefficient.reshape(4, 5, *(1,) * event_dim)
    assert torch.allclose(score, (weight * (h - torch.sigmoid(logits))).sum(0))


def test_joined_terms_pad_missing_dimensions():
    class Flat:
        has_path = False

        def __init__(self, value):
            self.value = value

        def log_prob(self):
            return self.value

    joined = JoinedTerm([[Flat(torch.tensor(1.0))], [Flat(torch.tensor(2.0))]], 2)
    assert joined.log_prob().shape == (2, 1, 1)
    assert joined.weighted(torch.ones(2, 3, 1)).item() == 9.0
