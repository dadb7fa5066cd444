"""BitFlip, PSA and ARMS: exact expectations over what each of them draws."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from sfnn_pyro.estimators import ARMS, PSA, BitFlip, arms, bit_flip
from sfnn_pyro.guides import PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
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

# BitFlip


@pytest.mark.parametrize("kind", ["prior", "recognition"])
@pytest.mark.parametrize("m", [1, 2])
def test_bit_flip_is_exactly_unbiased_in_a_deep_network(kind, m, monkeypatch):
    """Every tuple, choice of a unit of h1, h2 drawn again, and the one unit of h2."""
    case = network(kind, (m,), sizes=(2, 2, 1, 3))
    log_y, log_h, (log_r,) = case.tables()
    h1, h2 = case.states["h1"], case.states["h2"]
    axes = [all_tuples(8, m), all_tuples(2, m), all_tuples(2, m)]
    index = torch.cartesian_prod(*[torch.arange(len(axis)) for axis in axes])
    drawn, choice, again = (axis[index[:, i]].T for i, axis in enumerate(axes))  # (M, T)
    first, second = h1[drawn], h2[drawn]
    flipped = torch.where(choice.unsqueeze(-1) == torch.arange(2), 1 - first, first)
    redrawn = binary(1)[again]
    x, y = case.args(1)
    if kind == "prior":
        upper = case.model.layers[1]
        logits = flipped @ upper.weight.T + upper.bias
    else:
        guide = case.guide
        context = torch.tanh(torch.cat([x, y], -1) @ guide.encoder.weight.T + guide.encoder.bias)
        part = guide.from_context[1]
        logits = context @ part.weight.T + part.bias + flipped @ guide.from_below[0].weight.T
    probability = log_r[drawn].sum(0).exp() * 0.5**m
    probability = (probability * layer_log_prob(logits, redrawn).sum(0).exp()).detach()
    assert probability.sum().item() == pytest.approx(1, abs=1e-12)
    choices = [choice, torch.zeros_like(choice)]
    monkeypatch.setattr(bit_flip, "choose", lambda count, like: choices.pop(0))
    queue = Queue({"h1": [first], "h2": [second, redrawn]})
    estimator = BitFlip(m, max_plate_nesting=1)
    with queue, poutine.scale(scale=probability):
        loss = estimator.differentiable_loss(case.model, case.guide, *case.args(len(index)))
    assert not choices and not any(queue.values.values())
    target = expected_objective(log_y + log_h, [log_r], (m,))
    assert loss.item() == pytest.approx(-target.item(), abs=1e-10)
    assert close(-gradient(loss, case.parameters()), gradient(target, case.parameters()))


def test_units_are_chosen_alike():
    drawn = bit_flip.choose(4, torch.zeros(20_000, 2))
    assert same_mean(torch.nn.functional.one_hot(drawn.flatten(), 4).double(), 0.25)


# PSA


@pytest.mark.parametrize("kind", ["prior", "recognition"])
@pytest.mark.parametrize("m", [1, 2])
def test_psa_of_one_layer_is_exact(kind, m):
    case = network(kind, (m,), sizes=(2, 3, 3))
    objective, found = case.expected(PSA(m))
    log_y, log_h, log_r = case.tables()
    target = expected_objective(log_y + log_h, log_r, (m,))
    assert objective == pytest.approx(target.item(), abs=1e-10)
    assert close(found, gradient(target, case.parameters()))


def test_psa_of_two_layers_is_the_written_out_sum():
    """On given particles: differences through the second layer's probabilities."""
    model, m = SFNN([3, 2, 3, 4]), 3
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    x, y = torch.randn(5, 3), torch.rand(5, 4).round()
    h1, h2 = torch.rand(m, 5, 2).round(), torch.rand(m, 5, 3).round()
    with Queue({"h1": [h1], "h2": [h2]}):
        loss = PSA(m, max_plate_nesting=1).differentiable_loss(model, PriorProposal(model), x, y)
    found = -gradient(loss, list(model.parameters()))
    first, second, output = model.layers

    def chat(top):
        log_w = layer_log_prob(top @ output.weight.T + output.bias, y)
        return torch.logsumexp(log_w, 0) - math.log(m)

    def both(h, k, i):
        """The particles with unit i of particle k at one, and at zero."""
        up, down = h.clone(), h.clone()
        up[k, :, i], down[k, :, i] = 1, 0
        return up, down

    with torch.no_grad():
        g2, g1 = torch.zeros(m, 5, 3), torch.zeros(m, 5, 2)
        for k, i in itertools.product(range(m), range(3)):
            up, down = both(h2, k, i)
            g2[k, :, i] = chat(up) - chat(down)
        for k, i in itertools.product(range(m), range(2)):
            up, down = both(h1, k, i)
            p_up, p_down = (torch.sigmoid(second(h)) for h in (up, down))
            g1[k, :, i] = (g2 * (p_up - p_down))[k].sum(-1)
    a1, a2 = first(x), second(h1)
    total = (g1 * torch.sigmoid(a1)).sum() + (g2 * torch.sigmoid(a2)).sum()
    expected = gradient(total + chat(h2).sum(), list(model.parameters()))
    assert close(found, expected)


def test_psa_refuses_what_is_no_unit_by_name():
    def model(y):
        with pyro.plate("data", len(y)):
            u = pyro.sample("u", dist.Normal(0.0, 1.0))
            h = pyro.sample("h", dist.Bernoulli(logits=u))
            pyro.sample("y", dist.Normal(h, 1.0), obs=y)

    with pytest.raises(ValueError, match="site 'u': PSA has no gradient for a Normal"):
        PSA(2).loss(model, PriorProposal(model), torch.zeros(3))


# ARMS


def pmf(p, values):
    """P(b_1 ... b_K) of one unit, by inclusion and exclusion over the simplex, ``(T,)``."""
    m = values.shape[0]
    rare = torch.minimum(p, 1 - p)
    edge = 1 - rare ** (1 / (m - 1))
    of_rare = values if p < 0.5 else 1 - values
    count = of_rare.sum(0).long()
    result = torch.zeros(values.shape[1])
    for t, ones in enumerate(count.tolist()):
        for more in range(m - ones + 1):
            at_least = (1 - (ones + more) * edge).clamp(min=0) ** (m - 1) if ones + more else 1.0
            result[t] += (-1) ** more * math.comb(m - ones, more) * at_least
    return result


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("p", [0.1, 0.45, 0.5, 0.7, 0.95])
def test_dependent_draws_have_the_marginals_and_the_joint_law(p, m):
    logits = torch.logit(torch.tensor([p]))
    drawn = arms.ApartUnits(logits, 0).expand([m, 40_000]).sample()
    assert same_mean(drawn.T, p)
    values = binary(m).T
    expected = pmf(torch.tensor(p), values)
    assert expected.sum().item() == pytest.approx(1, abs=1e-10) and (expected > -1e-12).all()
    enough = expected > 0.01
    seen = (drawn.unsqueeze(-1) == values.unsqueeze(1)).all(0).double()
    assert same_mean(seen[:, enough], expected[enough])
    assert not seen[:, expected < 1e-12].any()
    both = (values[0] * values[1] * expected).sum()
    factor = arms.correction(logits, m)
    assert close(factor, torch.tensor([p * (1 - p) / (p - both)]))


@pytest.mark.parametrize("kind", ["prior", "recognition"])
@pytest.mark.parametrize(("m", "width"), [(2, 2), (3, 2), (4, 1)])
def test_arms_is_exactly_unbiased(kind, m, width):
    case = network(kind, (m,), sizes=(2, width, 3))
    log_y, log_h, (log_r,) = case.tables()
    states, tuples = case.states["h1"], all_tuples(2**width, m)
    values = states[tuples.T]  # (M, T, width)
    x, y = case.args(1)
    layer = case.model.layers[0]
    logits = x @ layer.weight.T + layer.bias
    if kind == "recognition":
        guide = case.guide
        context = torch.tanh(torch.cat([x, y], -1) @ guide.encoder.weight.T + guide.encoder.bias)
        logits = context @ guide.from_context[0].weight.T + guide.from_context[0].bias
    p = torch.sigmoid(logits.detach())[0]
    probability = torch.stack([pmf(p[i], values[..., i]) for i in range(width)]).prod(0)
    possible = probability > 1e-12
    values, probability = values[:, possible], probability[possible]
    assert probability.sum().item() == pytest.approx(1, abs=1e-12)
    estimator = ARMS(m, max_plate_nesting=1)
    with Queue({"h1": [values]}), poutine.scale(scale=probability):
        loss = estimator.differentiable_loss(case.model, case.guide, *case.args(len(probability)))
    # The bound's particles have their marginals whatever their dependence.
    bound = (log_r.exp() * (log_y + log_h - log_r)).sum()
    assert close(-gradient(loss, case.parameters()), gradient(bound, case.parameters()))


def test_arms_refuses_a_second_layer_by_name():
    model = SFNN([2, 3, 4, 2])
    with pytest.raises(ValueError, match="site 'h2': its probabilities differ between particles"):
        ARMS(3).loss(model, PriorProposal(model), torch.zeros(5, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="site 'h2': its probabilities"):
        ARMS(3).loss(model, RecognitionNetwork(model), torch.zeros(5, 2), torch.zeros(5, 2))
