import pyro
import pytest
import torch
from pyro import poutine

from sfnn_pyro.estimators import G3, G4, G5
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN

ESTIMATORS = [G3, G4, G5]


def grads(estimator, model, scale, x, y):
    torch.manual_seed(3)
    model.zero_grad()
    with poutine.scale(scale=scale):
        loss = estimator(5).loss_and_grads(model, PriorProposal(model), x, y)
    return loss, torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_subsampling_multiplies_the_gradient_by_exactly_n_over_b(estimator):
    whole, part = SFNN([3, 4, 2]), SFNN([3, 4, 2], data_size=700)
    part.load_state_dict(whole.state_dict())
    torch.nn.init.normal_(whole.layers[1].weight)
    part.load_state_dict(whole.state_dict())
    x, y = torch.randn(10, 3), torch.rand(10, 2).round()
    loss, gradient = grads(estimator, whole, 1.0, x, y)
    pyro.clear_param_store()
    scaled_loss, scaled_gradient = grads(estimator, part, 1.0, x, y)
    assert scaled_loss == pytest.approx(70 * loss, rel=1e-13)
    assert torch.allclose(scaled_gradient, 70 * gradient, rtol=1e-12, atol=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("scale", [0.01, torch.linspace(0.1, 2, 10)])
def test_a_scale_around_everything_is_outside_the_logarithm(estimator, scale):
    model = SFNN([3, 4, 2])
    x, y = torch.randn(10, 3), torch.rand(10, 2).round()
    weights = scale if torch.is_tensor(scale) else torch.full((10,), scale)
    loss, gradient = grads(estimator, model, scale, x, y)
    base_loss, base = grads(estimator, model, torch.ones(10), x, y)
    total_loss, total = 0.0, 0.0
    for b in range(10):
        one_more = torch.ones(10)
        one_more[b] += 1
        both_loss, both = grads(estimator, model, one_more, x, y)
        total_loss = total_loss + weights[b].item() * (both_loss - base_loss)
        total = total + weights[b] * (both - base)
    assert loss == pytest.approx(total_loss, rel=1e-12)
    assert torch.allclose(gradient, total, rtol=1e-9, atol=1e-13)
