import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from sfnn_pyro.distributions.constant import ConstantSample
from sfnn_pyro.models import SFNN
from sfnn_pyro.reparam import (
    ConstantSampleReparam,
    IdentityThroughReparam,
    MeanReparam,
    StraightThroughReparam,
    UnitsReparam,
    bernoulli_logits,
    deterministic,
    is_bernoulli,
    latent_bernoullis,
)


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (dist.Bernoulli(0.5), True),
        (dist.Bernoulli(torch.zeros(3)).to_event(1), True),
        (dist.Bernoulli(torch.zeros(3)).expand([2, 3]).to_event(2), True),
        (dist.Categorical(torch.ones(2)), False),
        (dist.Normal(0.0, 1.0), False),
    ],
)
def test_is_bernoulli(fn, expected):
    assert is_bernoulli(fn) is expected


def test_logits_whichever_way_it_was_parameterised():
    logits = torch.tensor([-1.0, 0.5])
    by_probs = dist.Bernoulli(torch.sigmoid(logits)).to_event(1)
    assert torch.allclose(bernoulli_logits(by_probs), logits)
    assert torch.equal(bernoulli_logits(dist.Bernoulli(logits=logits)), logits)


def run(fn, reparam):
    with poutine.trace() as tracer, poutine.reparam(config={"h": reparam}):
        pyro.sample("h", fn)
    return tracer.trace.nodes["h"]


@pytest.mark.parametrize(
    ("reparam", "slope"),
    [(StraightThroughReparam(), lambda p: p * (1 - p)), (IdentityThroughReparam(), lambda p: p**0)],
)
@pytest.mark.parametrize("event_dim", [0, 1, 2])
def test_straight_through_slopes(reparam, slope, event_dim):
    logits = torch.randn(2, 3, requires_grad=True)
    site = run(dist.Bernoulli(logits=logits).to_event(event_dim), reparam)
    assert set(site["value"].unique().tolist()) <= {0.0, 1.0}
    site["value"].sum().backward()
    assert torch.allclose(logits.grad, slope(torch.sigmoid(logits.detach())))
    assert site["fn"].event_dim == event_dim


@pytest.mark.parametrize("reparam", [StraightThroughReparam(), MeanReparam()])
def test_other_sites_are_named(reparam):
    with pytest.raises(ValueError, match=r"site 'h'.*takes Bernoulli sites"):
        run(dist.Categorical(torch.ones(3)), reparam)


def test_units_change_nothing_but_the_cost():
    logits = torch.randn(4, 3)
    fn = dist.Bernoulli(logits=logits).to_event(1)
    site = run(fn, UnitsReparam())
    assert torch.allclose(site["fn"].log_prob(site["value"]), fn.log_prob(site["value"]))
    other = run(dist.Bernoulli(torch.full((3,), 0.5)).to_event(1), UnitsReparam())
    assert isinstance(other["fn"], torch.distributions.Independent)


def test_constant_sample():
    loc = torch.zeros(3, requires_grad=True)
    site = run(dist.Normal(loc, 1).to_event(1), ConstantSampleReparam())
    assert not site["value"].requires_grad and isinstance(site["fn"], ConstantSample)
    assert site["fn"].support.event_dim == 1
    wide = site["fn"].expand(torch.Size([5]))
    assert wide.sample().shape == (5, 3)
    wide.log_prob(torch.ones(5, 3)).sum().backward()
    assert torch.equal(loc.grad, torch.full((3,), 5.0))


def test_deterministic_network_has_no_latent_and_the_means_as_values():
    model = SFNN([2, 3, 2, 4])
    x = torch.randn(5, 2)
    trace = poutine.trace(deterministic(model)).get_trace(x, torch.rand(5, 4).round())
    first, second, output = model.layers
    h1 = torch.sigmoid(x @ first.weight.T + first.bias)
    h2 = torch.sigmoid(h1 @ second.weight.T + second.bias)
    assert torch.allclose(trace.nodes["h1"]["value"], h1)
    assert torch.allclose(trace.nodes["h2"]["value"], h2)
    logits = trace.nodes["y"]["fn"].base_dist.logits
    assert torch.allclose(logits, h2 @ output.weight.T + output.bias)
    assert trace.nodes["h1"]["is_observed"]


def test_observed_bernoullis_are_left_alone():
    config = latent_bernoullis(MeanReparam())
    with poutine.reparam(config=config):
        y = pyro.sample("y", dist.Bernoulli(0.3), obs=torch.tensor(1.0))
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    assert y == 1 and z.shape == ()
