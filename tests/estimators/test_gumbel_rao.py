"""Gumbel-Rao: the expectation of Gumbel straight-through, by quadrature over the noise left."""

import numpy as np
import pytest
import torch

from sfnn_pyro.distributions import averaged
from sfnn_pyro.distributions.averaged import GumbelRaoOneHot, GumbelRaoUnits
from sfnn_pyro.estimators import GumbelRao
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from tests.estimators.expectation import close
from tests.statistics import same_mean


def rule(count=64):
    """Gauss-Legendre nodes in (0, 1), repeated so that each counts by its weight."""
    at, weight = np.polynomial.legendre.leggauss(count)
    return torch.tensor(at + 1) / 2, torch.tensor(weight) / 2


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize("a", [-2.0, -0.3, 0.8])
def test_the_slope_averages_to_that_of_gumbel_straight_through(a, temperature):
    """Of both values, weighted by their probabilities; rational functions of the noise."""
    nodes, weight = rule()
    logits, p = torch.tensor([a]), torch.sigmoid(torch.tensor(a))

    def mean_slope(z):
        s = torch.sigmoid(z / temperature)
        return (weight * s * (1 - s)).sum() / temperature

    given = [
        mean_slope(averaged.logistic_given(logits, torch.full_like(nodes, value), nodes))
        for value in (0.0, 1.0)
    ]
    unconditional = mean_slope(logits + torch.logit(nodes))
    assert close((1 - p) * given[0] + p * given[1], unconditional)


@pytest.mark.parametrize("draws", [1, 3])
def test_units_pass_the_mean_slope_of_their_draws(draws, monkeypatch):
    a, value = torch.randn(5, requires_grad=True), torch.rand(7, 5).round()
    v = torch.rand(draws, 7, 5)
    monkeypatch.setattr(averaged, "uniforms", lambda count, like: v[:count])
    GumbelRaoUnits(a, 1, temperature=0.7, draws=draws).attached(value).sum().backward()
    z = averaged.logistic_given(a.detach(), value, v)
    assert torch.equal((z > 0).double(), value.expand(draws, 7, 5))
    s = torch.sigmoid(z / 0.7)
    assert close(a.grad, (s * (1 - s) / 0.7).mean(0).sum(0))


def test_one_hot_choices_pass_the_mean_jacobian_of_their_draws(monkeypatch):
    a, value, pull = torch.randn(3, requires_grad=True), torch.eye(3)[1], torch.randn(3)
    e = torch.rand(4, 3).exponential_()
    monkeypatch.setattr(averaged, "exponentials", lambda count, like: e[:count])
    choice = GumbelRaoOneHot(a, 0.7, 4)
    (choice.attached(value) @ pull).backward()
    probs = torch.softmax(a.detach(), 0)
    z = -(e / probs + e[:, 1:2]).log()
    z[:, 1] = -e[:, 1].log()
    assert (z.argmax(1) == 1).all()
    q = torch.softmax(z / 0.7, 1)
    jacobian = (torch.diag_embed(q) - q.unsqueeze(2) * q.unsqueeze(1)).mean(0) / 0.7
    assert close(a.grad, jacobian @ pull)


def test_one_hot_draws_given_the_choice_have_the_law_of_the_draws():
    """The mean relaxed draw over all choices, against that of free Gumbel noise."""
    logits = torch.tensor([0.4, -0.6])
    probs = torch.softmax(logits, 0)
    nodes, weight = rule()
    first = torch.sigmoid((logits[0] - logits[1] + torch.logit(nodes)) / 0.5)
    expected = (weight * first).sum()
    draws = torch.stack([GumbelRaoOneHot(logits, 0.5, 40_000).relaxed(v) for v in torch.eye(2)])
    mean = (probs.unsqueeze(-1) * draws[..., 0]).sum(0)
    assert same_mean(mean, expected)


def test_more_draws_have_less_variance_and_the_same_mean():
    """Of four thousand slopes of one unit; the variances differ by a factor of two and more."""
    a, spread = torch.tensor([0.5]), []
    nodes, weight = rule()
    s = torch.sigmoid((a + torch.logit(nodes)) / 0.5)
    expected = (weight * s * (1 - s)).sum() / 0.5
    for draws in (1, 100):
        units = GumbelRaoUnits(a, 1, temperature=0.5, draws=draws)
        slope = units._slope(torch.bernoulli(torch.sigmoid(a).expand(4_000, 1)))
        assert same_mean(slope, expected)
        spread.append(slope.var())
    assert spread[1] < spread[0] / 2


@pytest.mark.parametrize(("name", "bad"), [("temperature", 0.0), ("draws", 0)])
def test_bad_arguments(name, bad):
    with pytest.raises(ValueError, match=f"{name}={bad}"):
        GumbelRao(2, **{name: bad})


def test_other_guides_are_refused():
    model = SFNN([2, 3, 2])
    with pytest.raises(ValueError, match=r"GumbelRao needs PriorProposal\(model\)"):
        GumbelRao(2).loss(
            model, PriorProposal(SFNN([2, 3, 2])), torch.zeros(1, 2), torch.zeros(1, 2)
        )
