"""REBAR and RELAX: no bias, by enumeration of the units and quadrature over their noise."""

import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from sfnn_pyro.estimators import REBAR, RELAX, rebar
from sfnn_pyro.guides import PriorProposal
from tests.estimators.expectation import (
    Queue,
    all_tuples,
    close,
    expected_objective,
    gradient,
    tuple_log_prob,
)
from tests.estimators.networks import network

NODES = 48
"""Of a Gauss-Legendre rule in each number of noise. With temperatures of 1/2 and 1 the relaxed
unit is a rational function of it, so that the rule's error falls geometrically."""


def rule(dimensions):
    """Nodes ``(Q, dimensions)`` in (0, 1) and their weights."""
    at, weight = np.polynomial.legendre.leggauss(NODES)
    at, weight = torch.tensor(at + 1) / 2, torch.tensor(weight) / 2
    grid = torch.tensor(list(itertools.product(range(NODES), repeat=dimensions)))
    return at[grid], weight[grid].prod(-1)


def trained(make, state):
    def estimator(m, **options):
        one = make(m, **options)
        one.scale.averages = torch.tensor([0.7, 1.0])
        if state and isinstance(one, RELAX):
            one.load_state_dict(
                {"averages": one.scale.averages, "functions": {k: v() for k, v in state.items()}}
            )
        return one

    return estimator


def learned(units, width=3):
    """The state of a function of some units and their logits, with any parameters."""

    def state():
        shapes = ((width, 2 * units), (width,), (width,), ())
        return {"parameters": [torch.randn(shape) for shape in shapes], "adam": {}}

    return state


FUNCTIONS = {"h1": learned(1), "h2": learned(1)}


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize("kind", ["prior", "recognition"])
@pytest.mark.parametrize(
    ("make", "sizes", "m"),
    [
        (REBAR, (2, 1, 1, 3), 1),
        (REBAR, (2, 1, 3), 2),
        (REBAR, (2, 2, 3), 1),
        (lambda m, **o: RELAX(m, width=3, **o), (2, 1, 1, 3), 1),
    ],
    ids=["two-layers", "two-particles", "two-units", "relax"],
)
def test_exactly_unbiased(make, sizes, m, kind, temperature, monkeypatch):
    case = network(kind, (m,), sizes=sizes)
    estimator = trained(make, FUNCTIONS)(m, temperature=temperature)
    estimator.max_plate_nesting = 1
    log_y, log_h, log_r = case.tables()
    tuples = all_tuples(len(log_y), m)
    widths = {name: table.shape[1] for name, table in case.states.items()}
    nodes, weight = rule(m * sum(widths.values()))
    chance = tuple_log_prob(tuples, log_r, (m,)).exp().detach()
    pairs = torch.cartesian_prod(torch.arange(len(tuples)), torch.arange(len(nodes)))
    probability = chance[pairs[:, 0]] * weight[pairs[:, 1]]
    chosen, noise = tuples[pairs[:, 0]], nodes[pairs[:, 1]]
    # (M, T, units) of each layer
    columns = noise.split([m * width for width in widths.values()], 1)
    given = [
        part.reshape(len(pairs), m, width).transpose(0, 1)
        for part, width in zip(columns, widths.values(), strict=True)
    ]
    monkeypatch.setattr(rebar, "uniforms", lambda like: given.pop(0))
    queue = {name: [table[chosen.T]] for name, table in case.states.items()}
    with Queue(queue), poutine.scale(scale=probability):
        loss = estimator.differentiable_loss(case.model, case.guide, *case.args(len(pairs)))
    assert not given
    target = expected_objective(log_y + log_h, log_r, (m,))
    assert loss.item() == pytest.approx(-target.item(), abs=1e-10)
    got, expected = -gradient(loss, case.parameters()), gradient(target, case.parameters())
    assert expected.abs().max() > 1e-2
    assert close(got, expected), (got - expected).abs().max()


def test_a_draw_given_the_unit_is_the_draw():
    """Over the noise left, z has the logistic law, and its path is what the coupling leaves."""
    logits = torch.tensor([-1.3, 0.2, 2.0], requires_grad=True)
    v = torch.rand(3)
    for value in (torch.zeros(3), torch.ones(3)):
        p = torch.sigmoid(logits)
        u = value * (v * p + 1 - p) + (1 - value) * v * (1 - p)
        of_draw = logits + torch.logit(u.detach())
        of_given = logits + torch.logit(u)

        class Term:
            pass

        term = Term()
        term.logits, term.value = logits, value
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rebar, "uniforms", lambda like: v)
            z, path = rebar._relaxed_draw(term)
        assert close(z, of_draw.detach()) and torch.equal((z > 0).to(value), value)
        expected = gradient((of_draw - of_given).sum(), [logits])
        assert close(path, expected)


def steps_of(make, m, steps, seed=0):
    """Squared norms of the logits' gradient over steps of an estimator that learns."""
    torch.manual_seed(seed)
    target = torch.tensor([0.45, 0.55, 0.2])
    logits = torch.zeros(3, requires_grad=True)

    def model(x):
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Bernoulli(logits=logits).to_event(1))
            pyro.factor("y", -((h - target) ** 2).sum(-1))

    estimator = make(m)
    found = []
    for _ in range(steps):
        loss = estimator.differentiable_loss(model, PriorProposal(model), torch.zeros(100))
        found.append(gradient(loss, [logits]) / 100)
    return estimator, torch.stack(found)


@pytest.mark.slow
def test_relax_learns_what_the_relaxation_lacks():
    """At a fixed point: the variance after learning is below that of the first steps.

    Ratios over twenty seeds lie between 0.2 and 0.5.
    """
    _, found = steps_of(lambda m: RELAX(m, rate=0.01), 1, 800)
    first, last = found[20:120].var(0).sum(), found[-200:].var(0).sum()
    assert last < 0.8 * first


def test_states_go_on_to_the_same_bits():
    whole, _ = steps_of(RELAX, 2, 6)
    half, _ = steps_of(RELAX, 2, 3)
    again = RELAX(2)
    again.load_state_dict(half.state_dict())
    copy, other = again.state_dict(), half.state_dict()
    assert torch.equal(copy["averages"], other["averages"])
    for key, slots in other["functions"]["h"]["adam"].items():
        for name, value in slots.items():
            assert torch.equal(copy["functions"]["h"]["adam"][key][name], value)
    assert whole.scale.averages[1] > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: REBAR(1, temperature=0.0), "temperature=0"),
        (lambda: RELAX(1, width=0), "width=0"),
        (lambda: RELAX(1, rate=0.0), "rate=0"),
        (lambda: REBAR(1).load_state_dict({}), "has the keys"),
        (lambda: RELAX(1).load_state_dict({"averages": 1}), "has the keys"),
        (lambda: REBAR(1, vectorize_particles=False), "vectorize_particles=False: REBAR"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
