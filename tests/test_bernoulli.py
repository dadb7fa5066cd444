"""Kernels against PyTorch's own operations, slow and obvious."""

import pytest
import torch
import torch.nn.functional as F

from sfnn_pyro.distributions import densities
from sfnn_pyro.distributions import kernels as bernoulli
from sfnn_pyro.distributions.units import BernoulliUnits


def rival_log_prob(logits, value, event_dim):
    logits, value = torch.broadcast_tensors(logits, value)
    each = -F.binary_cross_entropy_with_logits(logits, value, reduction="none")
    return each.sum(list(range(-event_dim, 0))) if event_dim else each


SHAPES = [  # logits, value, event_dim
    ((), (), 0),
    ((5,), (5,), 0),
    ((5,), (3, 5), 0),
    ((), (3, 5), 0),
    ((5,), (5,), 1),
    ((4, 5), (4, 5), 1),
    ((4, 6), (3, 4, 6), 1),
    ((6,), (3, 4, 6), 1),
    ((3, 4, 64), (4, 64), 1),
    ((4, 2, 5), (3, 4, 2, 5), 2),
    ((3, 4, 2, 5), (2, 5), 2),
    ((1, 4, 5), (3, 4, 5), 1),
]


@pytest.mark.parametrize("block", [1, 60, densities.BLOCK])
@pytest.mark.parametrize(("logits_shape", "value_shape", "event_dim"), SHAPES)
def test_log_prob_and_its_gradients(monkeypatch, logits_shape, value_shape, event_dim, block):
    monkeypatch.setattr(densities, "BLOCK", block)
    logits = (4 * torch.randn(logits_shape)).requires_grad_()
    value = torch.rand(value_shape).requires_grad_()  # between 0 and 1: grey targets
    ours = bernoulli.log_prob(logits, value, event_dim)
    rival = rival_log_prob(logits, value, event_dim)
    assert torch.allclose(ours, rival, atol=1e-12)
    weight = torch.randn(ours.shape)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), [logits, value]),
        torch.autograd.grad((rival * weight).sum(), [logits, value]),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize(
    ("logits_shape", "value_shape", "event_dim"),
    [shapes for shapes in SHAPES if len(shapes[0]) <= len(shapes[1])],
)
def test_score_has_the_gradient_of_the_weighted_log_prob(logits_shape, value_shape, event_dim):
    logits = torch.randn(logits_shape).requires_grad_()
    value = torch.rand(value_shape).round()
    rival = rival_log_prob(logits, value, event_dim)
    coefficient = torch.randn(rival.shape)
    units = BernoulliUnits(logits, event_dim)
    ours = units.score(value, coefficient)
    assert ours.item() == 0
    (expected,) = torch.autograd.grad((coefficient * rival).sum(), logits)
    (gradient,) = torch.autograd.grad(3 * ours, logits)
    assert torch.allclose(gradient, 3 * expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_prob_of_extreme_logits(dtype):
    logits = torch.tensor([1e4, -1e4, 1e4, 0.0], dtype=dtype, requires_grad=True)
    value = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=dtype)
    ours = bernoulli.log_prob(logits, value, 0)
    assert torch.allclose(ours, torch.tensor([0.0, 0.0, -1e4, -0.6931471805599453], dtype=dtype))
    ours.sum().backward()
    assert torch.allclose(logits.grad, torch.tensor([0.0, 0.0, -1.0, 0.5], dtype=dtype))


def test_float32_log_prob_is_as_precise_as_pytorchs():
    logits = 6 * torch.randn(50, 392, dtype=torch.float64)
    value = torch.rand(50, 392).round()
    exact = rival_log_prob(logits, value, 1)
    rounded = logits.float().double()
    exact = rival_log_prob(rounded, value, 1)
    ours = bernoulli.log_prob(logits.float(), value.float(), 1).double()
    rival = rival_log_prob(logits.float(), value.float(), 1).double()
    assert (ours - exact).abs().max() <= 2 * (rival - exact).abs().max() + 1e-4


@pytest.mark.parametrize("slope", ["sigmoid", "identity"])
def test_straight_through_sums_over_particles(slope):
    logits = torch.randn(4, 5, requires_grad=True)
    weight = torch.randn(3, 4, 5)
    value = torch.rand(3, 4, 5).round()
    drawn = bernoulli.straight_through(logits, logits.sigmoid(), value, slope=slope)
    assert torch.equal(drawn, value)
    (drawn * weight).sum().backward()
    p = logits.detach().sigmoid()
    expected = weight.sum(0) * (p * (1 - p) if slope == "sigmoid" else 1)
    assert torch.allclose(logits.grad, expected, atol=1e-12)
