"""Autocast: half-precision products, float32 probabilities, draws and log-weights."""

import pytest
import torch
from pyro.infer import SVI

from sfnn_pyro.estimators import G3, G4, G5
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.particles import draw_particles
from sfnn_pyro.training import JointOptim
from tests.enumeration import Forced


@pytest.fixture
def problem():
    torch.set_default_dtype(torch.float32)
    return SFNN([6, 8, 4, 10]), torch.rand(7, 6).round(), torch.rand(7, 10).round()


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize("estimator", [G3, G4, G5])
def test_gradients_agree_with_float32_to_the_precision_of_bfloat16(problem, estimator):
    model, x, y = problem
    particles = {
        "h1": torch.rand(5, 7, 8).round(),
        "h2": torch.rand(5, 7, 4).round(),
    }
    found = []
    for context in (autocast(), torch.autocast("cpu", enabled=False)):
        model.zero_grad()
        with context, Forced(particles):
            loss = estimator(5, max_plate_nesting=1).loss_and_grads(
                model, PriorProposal(model), x, y
            )
        assert all(p.grad.dtype == torch.float32 for p in model.parameters())
        found.append((loss, torch.cat([p.grad.flatten() for p in model.parameters()])))
    (half_loss, half), (loss, full) = found
    assert half_loss == pytest.approx(loss, rel=0.01)
    assert (half - full).norm() < 0.03 * full.norm()


def test_units_are_bfloat16_and_weights_float32(problem):
    model, x, y = problem
    with autocast():
        particles = draw_particles(
            model,
            PriorProposal(model),
            (x, y),
            {},
            num_particles=3,
            plate_nesting=1,
            strategy=G4(3).strategy,
        )
        assert particles.log_weight().dtype == torch.float32
    for term in particles.latent:
        assert term.value.dtype == torch.bfloat16
        assert term.fn.probs.dtype == torch.float32
        assert set(term.value.unique().tolist()) <= {0.0, 1.0}


def test_an_autocast_around_many_steps_sees_every_update(problem):
    model, x, y = problem
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    svi = SVI(model, PriorProposal(model), JointOptim(optimizer), G3(5))
    with autocast():
        svi.step(x, y)
        inside = torch.nn.functional.linear(x, model.layers[0].weight)
    with autocast():
        outside = torch.nn.functional.linear(x, model.layers[0].weight)
    assert torch.equal(inside, outside)
