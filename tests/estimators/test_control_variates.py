"""DoubleCV, MuProp and NVIL: no bias at any state, to 1e-10 of the enumerated gradient."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from sfnn_pyro.estimators import NVIL, RLOO, DoubleCV, MuProp
from sfnn_pyro.guides import PriorProposal
from tests.estimators.expectation import (
    Queue,
    all_tuples,
    binary,
    close,
    expected_bound,
    expected_objective,
    gradient,
    layer_log_prob,
)
from tests.estimators.networks import network, plates
from tests.estimators.test_unbiased import check


def double_cv(alpha):
    def make(m):
        estimator = DoubleCV(m)
        estimator.load_state_dict({"averages": torch.tensor([alpha, 1.0])})
        return estimator

    return make


def nvil(m):
    """One that has learned from other data."""
    estimator = NVIL(m)
    function = estimator.baseline
    width = 2 + 3
    function(torch.zeros(1, width))
    state = function.state_dict()
    state["parameters"] = [torch.randn_like(p) for p in state["parameters"]]
    estimator.load_state_dict({"center": -0.7, "baseline": state})
    return estimator


MAKE = {
    "doublecv": double_cv(0.6),
    "doublecv-untrained": DoubleCV,
    "muprop": MuProp,
    "nvil": nvil,
    "nvil-untrained": NVIL,
}


@pytest.mark.parametrize("kind", ["prior", "recognition"])
@pytest.mark.parametrize("name", MAKE)
def test_deep_network(name, kind):
    expected = check(network(kind, (2,)), MAKE[name](2))
    assert expected.abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["prior", "recognition"])
@pytest.mark.parametrize("make", [MuProp, nvil])
def test_one_particle(make, kind):
    check(network(kind, (1,)), make(1))


@pytest.mark.parametrize("name", ["doublecv", "muprop", "nvil"])
def test_three_particles(name):
    check(network("recognition", (3,), sizes=(2, 2, 3)), MAKE[name](3))


def test_nvil_takes_any_site_and_a_mixture():
    check(plates("mixture", (1, 1)), NVIL(2))
    check(network("mixture", (1, 1)), NVIL(2))


@pytest.mark.parametrize("make", [double_cv(0.8), MuProp])
def test_units_of_an_inner_plate_belong_to_one_datapoint(make):
    y = torch.tensor([[0.3]])
    logits, loc = torch.randn(2, requires_grad=True), torch.randn(2, requires_grad=True)

    def model(y):
        with pyro.plate("data", len(y), dim=-2):
            with pyro.plate("inner", 2, dim=-1):
                b = pyro.sample("b", dist.Bernoulli(logits=logits))
            pyro.sample("y", dist.Normal((b * loc).sum(-1, keepdim=True), 1.0), obs=y)

    states = binary(2)
    tuples = all_tuples(4, 2)
    log_h = layer_log_prob(logits, states)
    probability = log_h[tuples].sum(1).exp().detach()
    estimator = make(2)
    estimator.max_plate_nesting = 2
    with Queue({"b": [states[tuples.T]]}), poutine.scale(scale=probability.unsqueeze(-1)):
        loss = estimator.differentiable_loss(model, PriorProposal(model), y.expand(len(tuples), -1))
    log_y = dist.Normal(states @ loc, 1.0).log_prob(y[0, 0])
    expected = expected_bound if estimator.target == "bound" else expected_objective
    target = expected(log_y + log_h, [log_h], (2,))
    assert close(-gradient(loss, [logits, loc]), gradient(target, [logits, loc]))


def test_double_cv_without_alpha_is_rloo():
    case = network("recognition", (3,))
    args = case.args(5)
    values = {"h1": [torch.rand(3, 5, 2).round()], "h2": [torch.rand(3, 5, 1).round()]}
    found = []
    for estimator in (RLOO(3), double_cv(0.0)(3)):
        with Queue(values):
            loss = estimator.differentiable_loss(case.model, case.guide, *args)
        found.append(gradient(loss, case.parameters()))
    assert close(*found)


def test_double_cv_has_no_variance_where_the_objective_is_linear():
    """Three particles of one layer, log w linear in the units: alpha of 1 leaves nothing."""
    logits, slope = torch.randn(4, requires_grad=True), torch.randn(4)

    def model(x):
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Bernoulli(logits=logits).to_event(1))
            pyro.factor("y", h @ slope)

    estimator = double_cv(1.0)(3)
    loss = estimator.differentiable_loss(model, PriorProposal(model), torch.zeros(50))
    p = torch.sigmoid(logits.detach())
    assert close(-gradient(loss, [logits]), 50 * slope * p * (1 - p))


def test_muprop_has_no_variance_where_the_objective_is_linear_and_m_is_one():
    logits, slope = torch.randn(4, requires_grad=True), torch.randn(4)

    def model(x):
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Bernoulli(logits=logits).to_event(1))
            pyro.factor("y", h @ slope)

    loss = MuProp(1).differentiable_loss(model, PriorProposal(model), torch.zeros(50))
    p = torch.sigmoid(logits.detach())
    assert close(-gradient(loss, [logits]), 50 * slope * p * (1 - p))


def test_nvil_learns_the_objective_of_each_datapoint():
    """The baseline of a constant objective leaves a signal that falls to nothing."""
    shift = torch.linspace(-2, 2, 6)

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("h", dist.Bernoulli(logits=torch.zeros(1)).to_event(1))
            pyro.factor("y", 3 * x[:, 0])

    estimator = NVIL(1, rate=0.02)
    args = (shift.unsqueeze(1),)
    for _ in range(400):
        estimator.differentiable_loss(model, PriorProposal(model), *args)
    with torch.no_grad():
        left = 3 * shift - estimator.center - estimator.baseline(shift.unsqueeze(1))
    assert left.abs().max() < 0.1  # of 6 without a baseline


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NVIL(1, decay=1.0), "decay=1"),
        (lambda: NVIL(1, width=0), "width=0"),
        (lambda: NVIL(1, rate=-1.0), "rate=-1"),
        (lambda: NVIL(1).load_state_dict({}), "has the keys"),
        (lambda: DoubleCV(2).load_state_dict({"alpha": 1}), "has the keys"),
        (lambda: MuProp(2, vectorize_particles=False), "vectorize_particles=False: MuProp"),
        (lambda: DoubleCV(1), "needs at least 2"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
