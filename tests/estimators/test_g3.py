import pytest
import torch
from pyro import poutine

from sfnn_pyro.estimators import G2, G3
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from tests.enumeration import Forced


def closed_form(model, x, y, h1, h2, slope):
    """Eqs. 16 and 22 (or 19) on given particles, back-propagated by hand."""
    first, second, output = model.layers
    o = h2 @ output.weight.T + output.bias
    p = torch.sigmoid(o)
    log_w = (y * p + (1 - y) * (1 - p)).log().sum(-1)
    w = torch.softmax(log_w, 0)
    g_o = w.unsqueeze(-1) * (y - p)
    p2 = torch.sigmoid(h1 @ second.weight.T + second.bias)
    g_a2 = (g_o @ output.weight) * slope(p2)
    p1 = torch.sigmoid(x @ first.weight.T + first.bias)
    g_a1 = (g_a2 @ second.weight) * slope(p1)
    x = x.expand(*h1.shape[:2], -1)
    grads = []
    for g, below in ((g_a1, x), (g_a2, h1), (g_o, h2)):
        grads += [torch.einsum("mbi,mbj->ij", g, below), g.sum((0, 1))]
    return [g.detach() for g in grads]


@pytest.mark.parametrize(
    ("estimator", "slope"), [(G3, lambda p: p * (1 - p)), (G2, torch.ones_like)]
)
def test_gradient_is_the_closed_form_on_given_particles(estimator, slope):
    model = SFNN([3, 4, 2, 5])
    x, y = torch.randn(6, 3), torch.rand(6, 5).round()
    h1, h2 = torch.rand(7, 6, 4).round(), torch.rand(7, 6, 2).round()
    with Forced({"h1": h1, "h2": h2}):
        estimator(7, max_plate_nesting=1).loss_and_grads(model, PriorProposal(model), x, y)
    expected = closed_form(model, x, y, h1, h2, slope)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(-parameter.grad, gradient, atol=1e-12)


def test_g3_refuses_a_guide_that_is_not_the_models_prior():
    model = SFNN([2, 3, 2])
    with pytest.raises(ValueError, match=r"G3 needs PriorProposal\(model\)"):
        G3(2).loss(model, PriorProposal(SFNN([2, 3, 2])), torch.zeros(1, 2), torch.zeros(1, 2))


def test_straight_through_by_hand_gives_the_same_gradient():
    """G3 with one particle is back-propagation through the reparameterised model."""
    from sfnn_pyro.reparam import StraightThroughReparam, latent_bernoullis

    model = SFNN([3, 4, 2])
    x, y = torch.randn(6, 3), torch.rand(6, 2).round()
    by_hand = poutine.reparam(model, config=latent_bernoullis(StraightThroughReparam()))
    torch.manual_seed(1)
    trace = poutine.trace(by_hand).get_trace(x, y)
    trace.nodes["y"]["fn"].log_prob(y).sum().backward()
    by_hand_grads = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.manual_seed(1)
    G3(1, max_plate_nesting=1).loss_and_grads(model, PriorProposal(model), x, y)
    for p, g in zip(model.parameters(), by_hand_grads, strict=True):
        assert torch.allclose(-p.grad, g, atol=1e-12)
