import pyro
import pyro.distributions as dist
import pytest
import torch

from sfnn_pyro.estimators import GumbelStraightThrough
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.reparam import GumbelThroughOneHot, GumbelThroughReparam, GumbelThroughUnits
from tests.statistics import same_mean


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_gradient_is_the_closed_form_on_given_noise(temperature):
    model = SFNN([3, 4, 2, 5])
    x, y = torch.randn(6, 3), torch.rand(6, 5).round()
    estimator = GumbelStraightThrough(7, temperature=temperature, max_plate_nesting=1)
    torch.manual_seed(2)
    estimator.loss_and_grads(model, PriorProposal(model), x, y)
    torch.manual_seed(2)
    first, second, output = model.layers
    with torch.no_grad():
        noise1, noise2 = torch.rand(7, 6, 4).logit(), torch.rand(7, 6, 2).logit()
        z1 = x @ first.weight.T + first.bias + noise1
        h1 = (z1 > 0).to(z1)
        z2 = h1 @ second.weight.T + second.bias + noise2
        h2 = (z2 > 0).to(z2)
        p = torch.sigmoid(h2 @ output.weight.T + output.bias)
        w = torch.softmax((y * p + (1 - y) * (1 - p)).log().sum(-1), 0)

        def slope(z):
            s = torch.sigmoid(z / temperature)
            return s * (1 - s) / temperature

        g_o = w.unsqueeze(-1) * (y - p)
        g2 = (g_o @ output.weight) * slope(z2)
        g1 = (g2 @ second.weight) * slope(z1)
    x = x.expand(7, -1, -1)
    for parameter, expected in zip(
        model.parameters(),
        [
            e
            for g, b in ((g1, x), (g2, h1), (g_o, h2))
            for e in (torch.einsum("mbi,mbj->ij", g, b), g.sum((0, 1)))
        ],
        strict=True,
    ):
        assert torch.allclose(-parameter.grad, expected, atol=1e-12)


def test_draws_are_bernoulli_and_one_hot():
    h = GumbelThroughUnits(torch.tensor([-1.0, 0.0, 2.0]), event_dim=1).expand([40_000]).rsample()
    assert set(h.unique().tolist()) == {0.0, 1.0}
    assert same_mean(h, torch.sigmoid(torch.tensor([-1.0, 0.0, 2.0])))
    logits = torch.tensor([0.1, 1.0, -0.5])
    one_hot = GumbelThroughOneHot(logits).expand(torch.Size([40_000]))
    k = one_hot.rsample()
    assert torch.equal(k.sum(-1), torch.ones(40_000))
    assert same_mean(k, torch.softmax(logits, 0))
    assert torch.allclose(one_hot.log_prob(k)[:5].exp(), (k[:5] * torch.softmax(logits, 0)).sum(-1))
    assert one_hot.support.event_dim == 1


def test_one_hot_sites_slope_of_the_tempered_softmax():
    logits = torch.tensor([[0.3, -0.2, 0.5]] * 2, requires_grad=True)

    def model(y):
        with pyro.plate("data", 1):
            k = pyro.sample("k", dist.OneHotCategorical(logits=logits).to_event(1))
            pyro.sample("y", dist.Normal((k * torch.arange(3.0)).sum((-1, -2)), 1.0), obs=y)

    y = torch.tensor([2.5])
    torch.manual_seed(4)
    GumbelStraightThrough(1, temperature=0.7, max_plate_nesting=1).differentiable_loss(
        model, PriorProposal(model), y
    ).backward()
    torch.manual_seed(4)
    noise = -torch.empty(1, 1, 2, 3).exponential_().log()
    a = logits.detach().clone().requires_grad_()
    relaxed = torch.softmax((a + noise) / 0.7, -1)
    hard = torch.nn.functional.one_hot((a + noise).argmax(-1), 3)
    total = (hard * torch.arange(3.0)).sum()
    (expected,) = torch.autograd.grad((relaxed * torch.arange(3.0)).sum(), a)
    assert torch.allclose(-logits.grad, (y - total) * expected)


def test_reparam_by_hand_names_the_site():
    from pyro import poutine

    reparam = poutine.reparam(config={"k": GumbelThroughReparam()})
    with reparam, pytest.raises(ValueError, match="site 'k': Categorical has no Gumbel sample"):
        pyro.sample("k", dist.Categorical(torch.ones(3)))
