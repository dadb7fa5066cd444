"""ReinMax against its closed forms: given particles, the toy, and enumerated expectations."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from sfnn_pyro.distributions import second_order
from sfnn_pyro.distributions.second_order import ReinMaxOneHot
from sfnn_pyro.estimators import G3, ReinMax
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from tests.estimators.expectation import binary, close, layer_log_prob


@pytest.fixture
def force(monkeypatch):
    """Gives the next draws of ReinMax's units these values: the slope depends on the value."""

    def next_draws(*values):
        queue = list(values)

        def draw(probs, shape, dtype):
            value = queue.pop(0)
            assert value.shape == shape and value.dtype == dtype
            return value

        monkeypatch.setattr(second_order.kernels, "draw", draw)
        return queue

    return next_draws


@pytest.mark.parametrize("blend", [0.0, 0.3, 1.0])
def test_gradient_is_the_closed_form_on_given_particles(blend, force):
    model = SFNN([3, 4, 2, 5])
    x, y = torch.randn(6, 3), torch.rand(6, 5).round()
    h1, h2 = torch.rand(7, 6, 4).round(), torch.rand(7, 6, 2).round()
    left = force(h1, h2)
    estimator = ReinMax(7, blend=blend, max_plate_nesting=1)
    estimator.loss_and_grads(model, PriorProposal(model), x, y)
    assert not left

    def slope(h, p):
        return (1 - blend) * p * (1 - p) + blend * (h - p).abs() / 2

    with torch.no_grad():
        first, second, output = model.layers
        p1 = torch.sigmoid(x @ first.weight.T + first.bias)
        p2 = torch.sigmoid(h1 @ second.weight.T + second.bias)
        p = torch.sigmoid(h2 @ output.weight.T + output.bias)
        w = torch.softmax((y * p + (1 - y) * (1 - p)).log().sum(-1), 0)
        g_o = w.unsqueeze(-1) * (y - p)
        g2 = (g_o @ output.weight) * slope(h2, p2)
        g1 = (g2 @ second.weight) * slope(h1, p1)
        below = x.expand(7, -1, -1)
        expected = []
        for g, inputs in ((g1, below), (g2, h1), (g_o, h2)):
            expected += [torch.einsum("mbi,mbj->ij", g, inputs), g.sum((0, 1))]
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(-parameter.grad, gradient, atol=1e-12)


@pytest.mark.parametrize("with_guide", [False, True])
def test_one_layer_has_the_trapezoidal_closed_form_and_a_quadratic_no_bias(with_guide, force):
    """One unit a datapoint: E = p (1 - p) [f'(0) + f'(1)] / 2, f = log w; exact for quadratics."""
    prior, logit = torch.tensor(-0.4), torch.tensor(0.7, requires_grad=True)
    own = logit if not with_guide else prior
    y = torch.tensor([1.3])

    def model(y):
        with pyro.plate("data", len(y)):
            h = pyro.sample("h", dist.Bernoulli(logits=own))
            pyro.sample("y", dist.Normal(2 * h, 1.0), obs=y)

    def guide(y):
        with pyro.plate("data", len(y)):
            pyro.sample("h", dist.Bernoulli(logits=logit))

    p = torch.sigmoid(logit.detach())
    proposal = guide if with_guide else PriorProposal(model)
    total = torch.zeros(())
    for value, probability in ((0.0, 1 - p), (1.0, p)):
        force(torch.full((1, 1), value))
        loss = ReinMax(1, max_plate_nesting=1).differentiable_loss(model, proposal, y)
        total = total - probability * torch.autograd.grad(loss, logit)[0]
    states = torch.tensor([0.0, 1.0])
    a = torch.tensor(0.7, requires_grad=True)
    log_q = states * a - torch.nn.functional.softplus(a)
    log_w = dist.Normal(2 * states, 1.0).log_prob(y)
    if with_guide:
        log_w = log_w + states * prior - torch.nn.functional.softplus(prior) - log_q
    (exact,) = torch.autograd.grad((log_q.exp() * log_w).sum(), a)
    assert close(total, exact)


def test_one_hot_sites_have_the_published_jacobian_and_its_blend():
    a, value = torch.randn(4, requires_grad=True), torch.eye(4)[2]
    q, pull = torch.softmax(a.detach(), 0), torch.randn(4)

    def jacobian(p):
        return torch.diag(p) - torch.outer(p, p)

    for blend in (0.0, 0.4, 1.0):
        (got,) = torch.autograd.grad(ReinMaxOneHot(a, blend).attached(value) @ pull, a)
        second = 2 * jacobian((q + value) / 2) - jacobian(q) / 2
        assert close(got, ((1 - blend) * jacobian(q) + blend * second) @ pull)


def test_one_hot_sites_are_exact_for_a_quadratic_of_one_choice():
    a, form, linear = torch.randn(3, requires_grad=True), torch.randn(3, 3), torch.randn(3)
    choice = ReinMaxOneHot(a)
    probs, total, mean = torch.softmax(a, 0), torch.zeros(3), 0.0
    for k, value in enumerate(torch.eye(3)):
        h = choice.attached(value)
        total += (
            probs[k].detach()
            * torch.autograd.grad(h @ form @ h + linear @ h, a, retain_graph=True)[0]
        )
        mean = mean + probs[k] * (value @ form @ value + linear @ value)
    assert close(total, torch.autograd.grad(mean, a)[0])


def test_expectation_over_two_particles_is_that_of_its_written_out_form(force):
    """All pairs of particles of two units; the weights and slopes by hand."""
    logits, loc = torch.randn(2, requires_grad=True), torch.randn(2)
    y = torch.tensor([0.7])

    def model(y):
        with pyro.plate("data", len(y)):
            h = pyro.sample("h", dist.Bernoulli(logits=logits.expand(len(y), 2)).to_event(1))
            pyro.sample("y", dist.Normal((h @ loc).exp(), 1.0), obs=y)

    states, p = binary(2), torch.sigmoid(logits.detach())
    log_h = layer_log_prob(logits.detach(), states)
    index = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    h = states[index].transpose(0, 1)  # (M, T, n)
    probability = log_h[index].sum(1).exp()
    force(h)
    with poutine.scale(scale=probability):
        loss = ReinMax(2, max_plate_nesting=1).differentiable_loss(
            model, PriorProposal(model), y.expand(16)
        )
    mean = (h @ loc).exp()
    weight = torch.softmax(-((y - mean) ** 2) / 2, 0)
    by_h = ((y - mean) * mean).unsqueeze(-1) * loc * (h - p).abs() / 2
    expected = (probability.unsqueeze(-1) * (weight.unsqueeze(-1) * by_h).sum(0)).sum(0)
    assert close(-torch.autograd.grad(loss, logits)[0], expected)


def test_blend_of_zero_is_g3_and_others_are_refused():
    model = SFNN([3, 4, 2])
    x, y = torch.randn(6, 3), torch.rand(6, 2).round()
    grads = []
    for estimator in (G3(5), ReinMax(5, blend=0.0)):
        torch.manual_seed(1)
        loss = estimator.differentiable_loss(model, PriorProposal(model), x, y)
        grads.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, model.parameters())])
        )
    assert torch.allclose(*grads, atol=1e-12, rtol=0)
    for blend in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"blend=.*: must lie between 0 \(G3\) and 1"):
            ReinMax(5, blend=blend)
