import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from sfnn_pyro.estimators import G1
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from tests.estimators.expectation import Queue


@pytest.fixture
def problem():
    model = SFNN([3, 4, 2, 5])
    return model, torch.randn(6, 3), torch.rand(6, 5).round()


def by_hand(model, x, y, h1, h2):
    """(h - sigma)^2 L and (h - sigma)^2, averaged over particles and datapoints, and L."""
    first, second, output = model.layers
    p1 = torch.sigmoid(x @ first.weight.T + first.bias)
    p2 = torch.sigmoid(h1 @ second.weight.T + second.bias)
    p = torch.sigmoid(h2 @ output.weight.T + output.bias)
    log_w = (y * p + (1 - y) * (1 - p)).log().sum(-1)
    chat = torch.logsumexp(log_w, 0) - torch.log(torch.tensor(float(len(h1))))
    result = {}
    for name, h, mean in (("h1", h1, p1), ("h2", h2, p2)):
        squares = (h - mean) ** 2
        result[name] = torch.stack([(squares * chat[:, None]).mean((0, 1)), squares.mean((0, 1))])
    return result


def test_averages_and_gradient_of_two_steps(problem):
    """The first draw starts the averages; each step uses them and then moves them."""
    model, x, y = problem
    guide, elbo = PriorProposal(model), G1(7, decay=0.9, max_plate_nesting=1)
    draws = [(torch.rand(7, 6, 4).round(), torch.rand(7, 6, 2).round()) for _ in range(3)]
    with Queue({"h1": [h[0] for h in draws[:2]], "h2": [h[1] for h in draws[:2]]}):
        elbo.loss_and_grads(model, guide, x, y)
    with torch.no_grad():
        first, second, third = (by_hand(model, x, y, *h) for h in draws)
    expected = {n: 0.9 * first[n] + 0.1 * second[n] for n in first}
    for name, pair in elbo.state_dict()["averages"].items():
        assert torch.allclose(pair, expected[name])
        assert torch.allclose(elbo.baseline(name), expected[name][0] / expected[name][1])
    model.zero_grad()
    h1, h2 = draws[2]
    with Queue({"h1": [h1], "h2": [h2]}):
        elbo.loss_and_grads(model, guide, x, y)
    below = model.layers[0]
    p1 = torch.sigmoid(x @ below.weight.T + below.bias)
    p2 = torch.sigmoid(h1 @ model.layers[1].weight.T + model.layers[1].bias)
    o = torch.sigmoid(h2 @ model.layers[2].weight.T + model.layers[2].bias)
    chat = torch.logsumexp((y * o + (1 - y) * (1 - o)).log().sum(-1), 0)
    chat = (chat - torch.log(torch.tensor(7.0))).detach()
    pull1 = (h1 - p1) * (chat[:, None] - expected["h1"][0] / expected["h1"][1])
    pull2 = (h2 - p2) * (chat[:, None] - expected["h2"][0] / expected["h2"][1])
    assert torch.allclose(-below.bias.grad, pull1.sum((0, 1)))
    assert torch.allclose(-model.layers[1].weight.grad, torch.einsum("mbi,mbj->ij", pull2, h1))
    moved = elbo.state_dict()["averages"]["h1"]
    assert torch.allclose(moved, 0.9 * expected["h1"] + 0.1 * third["h1"])


def test_state_goes_on_exactly(problem):
    model, x, y = problem
    guide, one = PriorProposal(model), G1(3)
    one.loss_and_grads(model, guide, x, y)
    other = G1(3)
    other.load_state_dict(one.state_dict())
    grads = []
    for elbo in (one, other):
        model.zero_grad()
        torch.manual_seed(5)
        elbo.loss_and_grads(model, guide, x, y)
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.equal(*grads)


def test_evaluation_leaves_the_averages_alone(problem):
    model, x, y = problem
    elbo = G1(3)
    elbo.loss_and_grads(model, PriorProposal(model), x, y)
    before = elbo.state_dict()
    elbo.loss(model, PriorProposal(model), x, y)
    for name, pair in elbo.state_dict()["averages"].items():
        assert torch.equal(pair, before["averages"][name])


def test_a_unit_that_never_varied_has_baseline_zero():
    elbo = G1(2)
    elbo.load_state_dict({"averages": {"h": torch.zeros(2, 3)}})
    assert elbo.baseline("h").tolist() == [0.0, 0.0, 0.0]


def test_baselines_belong_to_the_units_of_an_inner_plate_and_a_mask_silences_no_score():
    logits = torch.zeros(3, requires_grad=True)

    def model(y):
        with pyro.plate("data", len(y), dim=-2):
            z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.3)))
            with pyro.plate("inner", 3, dim=-1):
                with poutine.mask(mask=torch.tensor([True, True, False])):
                    h = pyro.sample("h", dist.Bernoulli(logits=logits))
                pyro.sample("y", dist.Normal(h + z, 1.0), obs=y)

    elbo = G1(4)
    elbo.differentiable_loss(model, PriorProposal(model), torch.randn(5, 3)).backward()
    assert elbo.baseline("h").shape == (3,)
    assert logits.grad.all()  # y depends on all three, however h is masked


def test_one_estimator_for_each_model():
    elbo = G1(2, max_plate_nesting=1)
    x, y = torch.zeros(1, 2), torch.zeros(1, 2)
    small, large = SFNN([2, 3, 2]), SFNN([2, 4, 2])
    elbo.differentiable_loss(small, PriorProposal(small), x, y)
    pyro.clear_param_store()
    with pytest.raises((ValueError, RuntimeError)):
        elbo.differentiable_loss(large, PriorProposal(large), x, y)
    elbo.load_state_dict({"averages": {"h1": torch.ones(2, 1)}})  # which would broadcast
    with pytest.raises(ValueError, match=r"'h1' had units of shape \(1,\) before and now \(4,\)"):
        elbo.differentiable_loss(large, PriorProposal(large), x, y)


def test_units_of_an_event_in_an_inner_plate():
    """The averages are over particles and datapoints, not over the inner plate or the event."""

    def model(y):
        with pyro.plate("data", len(y), dim=-2):
            pyro.sample("z", dist.Bernoulli(torch.tensor(0.3)))
            with pyro.plate("inner", 3, dim=-1):
                h = pyro.sample("h", dist.Bernoulli(torch.full((3, 4), 0.4)).to_event(1))
                pyro.sample("y", dist.Normal(h.sum(-1), 1.0), obs=y)

    elbo, y, m = G1(7), torch.randn(5, 3), 7
    elbo.max_plate_nesting = 2
    h = torch.rand(m, 5, 3, 4).round()
    with Queue({"h": [h]}):
        elbo.differentiable_loss(model, PriorProposal(model), y)
    with torch.no_grad():
        elbo.decay = 0.0
        with Queue({"h": [h]}):
            elbo.differentiable_loss(model, PriorProposal(model), y)
    log_w = dist.Normal(h.sum(-1), 1.0).log_prob(y).sum(-1)  # (M, B)
    chat = torch.logsumexp(log_w, 0) - torch.log(torch.tensor(float(m)))
    squares = (h - 0.4) ** 2
    numerator = (squares * chat[:, None, None]).mean((0, 1))
    assert torch.allclose(elbo.state_dict()["averages"]["h"][0], numerator)
    assert torch.allclose(elbo.baseline("h"), numerator / squares.mean((0, 1)))


def test_a_state_is_a_copy_both_ways():
    elbo = G1(2)
    state = {"averages": {"h": torch.ones(2, 3)}}
    elbo.load_state_dict(state)
    state["averages"]["h"].zero_()
    elbo.state_dict()["averages"]["h"].zero_()
    assert torch.equal(elbo.state_dict()["averages"]["h"], torch.ones(2, 3))


def test_a_decay_of_zero_keeps_the_last_minibatch_alone(problem):
    model, x, y = problem
    elbo = G1(3, decay=0.0, max_plate_nesting=1)
    elbo.loss_and_grads(model, PriorProposal(model), x, y)
    h1, h2 = torch.rand(3, 6, 4).round(), torch.rand(3, 6, 2).round()
    with Queue({"h1": [h1], "h2": [h2]}):
        elbo.loss_and_grads(model, PriorProposal(model), x, y)
    expected = by_hand(model, x, y, h1, h2)
    for name, pair in elbo.state_dict()["averages"].items():
        assert torch.allclose(pair, expected[name])
    with pytest.raises(ValueError, match=r"decay=-0.5: must lie in \[0, 1\)"):
        G1(2, decay=-0.5)
