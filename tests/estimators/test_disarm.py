"""DisARM's expectation over particles, antithetic partners and later layers drawn again."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from sfnn_pyro.estimators import DisARM, disarm
from sfnn_pyro.guides import PriorProposal
from tests.estimators.expectation import (
    Queue,
    all_tuples,
    binary,
    close,
    expected_objective,
    gradient,
    layer_log_prob,
)
from tests.estimators.networks import network
from tests.statistics import same_mean


def pair_prob(p, h, partner):
    """P(h, partner) of h = 1[u < p], partner = 1[1 - u < p]: lengths of intervals of u."""
    both, neither = (2 * p - 1).clamp(min=0), (1 - 2 * p).clamp(min=0)
    one = torch.minimum(p, 1 - p)
    same = h == partner
    return torch.where(same, torch.where(h > 0.5, both, neither), one)


def partner_prob(logits, h, partner):
    """P(partner | h) of a whole layer, (...,)."""
    p = torch.sigmoid(logits)
    return (pair_prob(p, h, partner) / torch.where(h > 0.5, p, 1 - p)).prod(-1)


def test_partners_have_the_joint_law_of_reversed_uniforms():
    logits = torch.tensor([-3.0, -0.4, 0.0, 0.4, 3.0])
    for h in (torch.zeros(5), torch.ones(5)):
        drawn = disarm.antithetic(logits, h.expand(40_000, 5))
        expected = torch.stack(
            [partner_prob(logits[i : i + 1], h[i : i + 1], torch.ones(1)) for i in range(5)]
        )
        assert same_mean(drawn, expected)
    p, zero, one = torch.sigmoid(logits), torch.zeros(5), torch.ones(5)
    total = sum(pair_prob(p, a, b) for a in (zero, one) for b in (zero, one))
    assert torch.allclose(total, one)


@pytest.mark.parametrize("kind", ["prior", "recognition"])
def test_deep_network_is_exactly_unbiased(kind, monkeypatch):
    m = 2
    case = network(kind, (m,), sizes=(2, 2, 1, 2))
    log_y, log_h, (log_r,) = case.tables()
    h1, h2 = case.states["h1"], case.states["h2"]  # (8, 2), (8, 1)
    layer1, layer2 = binary(2), binary(1)
    # every (tuple, partner of h1, h2 drawn again, partner of h2)
    axes = [all_tuples(8, m), all_tuples(4, m), all_tuples(2, m), all_tuples(2, m)]
    index = torch.cartesian_prod(*[torch.arange(len(axis)) for axis in axes])
    drawn, flip1, again2, flip2 = (axis[index[:, i]].T for i, axis in enumerate(axes))  # (M, T)
    first, second = h1[drawn], h2[drawn]
    x, y = case.args(1)
    if kind == "prior":
        lower, upper = case.model.layers[0], case.model.layers[1]
        a1 = x @ lower.weight.T + lower.bias

        def a2(below):
            return below @ upper.weight.T + upper.bias
    else:
        guide = case.guide
        context = torch.tanh(torch.cat([x, y], -1) @ guide.encoder.weight.T + guide.encoder.bias)
        a1, top = (context @ part.weight.T + part.bias for part in guide.from_context)

        def a2(below):
            return top + below @ guide.from_below[0].weight.T

    partner1, redrawn2, partner2 = layer1[flip1], layer2[again2], layer2[flip2]
    probability = (
        log_r[drawn].sum(0).exp()
        * partner_prob(a1, first, partner1).prod(0)
        * layer_log_prob(a2(partner1), redrawn2).sum(0).exp()
        * partner_prob(a2(first), second, partner2).prod(0)
    ).detach()
    assert probability.sum().item() == pytest.approx(1, abs=1e-12)
    some = probability > 0  # a pair of equal units is impossible on one side of 1/2
    probability, first, second = probability[some], first[:, some], second[:, some]
    partner1, redrawn2, partner2 = partner1[:, some], redrawn2[:, some], partner2[:, some]
    partners = [partner1, partner2]
    monkeypatch.setattr(disarm, "antithetic", lambda logits, value: partners.pop(0))
    queue = Queue({"h1": [first], "h2": [second, redrawn2]})
    estimator = DisARM(m, max_plate_nesting=1)
    with queue, poutine.scale(scale=probability):
        loss = estimator.differentiable_loss(case.model, case.guide, *case.args(len(probability)))
    assert not partners and not any(queue.values.values())
    target = expected_objective(log_y + log_h, [log_r], (m,))
    assert loss.item() == pytest.approx(-target.item(), abs=1e-10)
    assert close(-gradient(loss, case.parameters()), gradient(target, case.parameters()))


def test_gradient_of_given_particles_and_partners_is_the_written_out_sum(monkeypatch):
    """Three particles; the expectation would forgive a constant added to the difference."""
    logits, loc = torch.randn(2, requires_grad=True), torch.randn(2)
    y, m = torch.tensor([0.7, -0.4]), 3

    def model(y):
        with pyro.plate("data", len(y)):
            h = pyro.sample("h", dist.Bernoulli(logits=logits).to_event(1))
            pyro.sample("y", dist.Normal(h @ loc, 1.0), obs=y)

    h, partner = torch.rand(m, 2, 2).round(), torch.rand(m, 2, 2).round()
    monkeypatch.setattr(disarm, "antithetic", lambda logits, value: partner)
    with Queue({"h": [h]}):
        loss = DisARM(m, max_plate_nesting=1).differentiable_loss(model, PriorProposal(model), y)

    def chat(particles, b):
        log_w = dist.Normal(particles @ loc, 1.0).log_prob(y[b])
        return torch.logsumexp(log_w, 0) - torch.log(torch.tensor(float(m)))

    expected = torch.zeros(2)
    for b in range(2):
        for i in range(m):
            swapped = h[:, b].clone()
            swapped[i] = partner[i, b]
            half = (chat(h[:, b], b) - chat(swapped, b)) / 2
            expected += half * (h[i, b] - partner[i, b]) * torch.sigmoid(logits.detach().abs())
    assert close(-gradient(loss, [logits]), expected)


def test_nested_plates_flip_all_units_of_a_datapoint_together(monkeypatch):
    """One particle, Bernoullis in an inner plate: all pairs enumerated."""
    y = torch.tensor([[0.3, -1.2]])
    logits, loc = torch.randn(2, requires_grad=True), torch.randn(2, requires_grad=True)

    def model(y):
        with pyro.plate("data", len(y), dim=-2), pyro.plate("inner", 2, dim=-1):
            b = pyro.sample("b", dist.Bernoulli(logits=logits))
            pyro.sample("y", dist.Normal(b * loc, 1.0), obs=y)

    states = binary(2)
    pairs = all_tuples(4, 2)
    value, partner = states[pairs[:, 0]].unsqueeze(0), states[pairs[:, 1]].unsqueeze(0)
    probability = layer_log_prob(logits, value[0]).exp() * partner_prob(
        logits, value[0], partner[0]
    )
    some = probability > 0
    probability, value, partner = probability[some], value[:, some], partner[:, some]
    monkeypatch.setattr(disarm, "antithetic", lambda logits, value: partner)
    with Queue({"b": [value]}), poutine.scale(scale=probability.detach().unsqueeze(-1)):
        loss = DisARM(1, max_plate_nesting=2).differentiable_loss(
            model, PriorProposal(model), y.expand(len(probability), -1)
        )
    log_y = dist.Normal(states * loc, 1.0).log_prob(y).sum(-1)
    log_h = layer_log_prob(logits, states)
    target = expected_objective(log_y + log_h, [log_h], (1,))
    assert close(-gradient(loss, [logits, loc]), gradient(target, [logits, loc]))


def test_later_layers_are_drawn_again_and_earlier_ones_kept():
    case = network("prior", (3,), sizes=(2, 4, 5, 3))
    x, y = torch.randn(6, 2), torch.rand(6, 3).round()
    particles = DisARM(3, max_plate_nesting=1).draw(case.model, case.guide, (x, y), {})
    kept = particles.latent[0].value
    again = particles.redraw({"h1": kept})
    assert torch.equal(again.latent[0].value, kept)
    assert not torch.equal(again.latent[1].value, particles.latent[1].value)
