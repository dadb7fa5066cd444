"""A loss that is looked at later."""

import math

import pytest
import torch
from pyro.infer import SVI

from sfnn_pyro.estimators import G3, G5, VIMCO, Chunked, Lazy, LazyLoss
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.training.optimizers import JointOptim


@pytest.mark.parametrize("estimator", [G3(4), G5(4), VIMCO(4), Chunked(G5(4), 2)])
def test_a_lazy_step_is_the_step(estimator) -> None:
    results = []
    for number, elbo in enumerate((estimator, Lazy(estimator))):
        torch.manual_seed(0)
        model = SFNN([4, 3, 5], name=f"network{number}")
        x, y = torch.rand(6, 4).round(), torch.rand(6, 5).round()
        optim = JointOptim(torch.optim.SGD(model.parameters(), lr=0.1))
        svi = SVI(model, PriorProposal(model), optim, elbo)
        losses = [svi.step(x, y) for _ in range(3)]
        assert all(isinstance(loss, LazyLoss) == bool(number) for loss in losses)
        results.append((list(map(float, losses)), [p.tolist() for p in model.parameters()]))
    assert results[0] == results[1]


def test_a_lazy_loss_is_a_number() -> None:
    loss = LazyLoss(torch.tensor(math.inf))
    assert not math.isfinite(loss)
    assert repr(loss) == "LazyLoss(inf)"
    assert f"{LazyLoss(torch.tensor(1.25)):.1f}" == "1.2"


def test_evaluation_is_not_lazy() -> None:
    model = SFNN([4, 3, 2])
    x, y = torch.zeros(5, 4), torch.ones(5, 2)
    assert isinstance(Lazy(G5(4)).loss(model, PriorProposal(model), x, y), float)
