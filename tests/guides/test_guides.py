import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO

from sfnn_pyro.estimators import G4, VIMCO
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN


def sites(guide, *args):
    trace = poutine.trace(guide).get_trace(*args)
    return {n: s for n, s in trace.nodes.items() if n.startswith("h")}


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "gaussian"])
@pytest.mark.parametrize("width", [0, 5])
@pytest.mark.parametrize("inputs", [0, 3])
def test_recognition_network_fits_its_model(likelihood, width, inputs):
    model = SFNN([inputs, 4, 2, 6], likelihood, data_size=70)
    guide = RecognitionNetwork(model, width=width)
    x = torch.randn(5, inputs)
    y = torch.arange(5) if likelihood == "categorical" else torch.rand(5, 6).round()
    drawn = sites(guide, x, y)
    assert {n: s["value"].shape for n, s in drawn.items()} == {"h1": (5, 4), "h2": (5, 2)}
    assert all(s["scale"] == 14 for s in drawn.values())
    loss = VIMCO(3).loss_and_grads(model, guide, x, y)
    assert loss > 0
    assert all(p.grad is not None and p.grad.any() for p in guide.parameters() if p.numel())


def test_recognition_network_is_bottom_up_over_x_and_y():
    """h1 does not see h2; h2 sees h1; both see x and y."""
    model = SFNN([2, 3, 3, 2])
    guide = RecognitionNetwork(model, width=0)
    x, y = torch.randn(1, 2), torch.rand(1, 2).round()

    def logits(name, x=x, y=y, **fixed):
        conditioned = poutine.condition(guide, data=fixed)
        return sites(conditioned, x, y)[name]["fn"].base_dist.logits

    ones, zeros = torch.ones(1, 3), torch.zeros(1, 3)
    for name in ("h1", "h2"):
        assert not torch.equal(logits(name, h1=ones), logits(name, x=x + 1, h1=ones))
        assert not torch.equal(logits(name, h1=ones), logits(name, y=1 - y, h1=ones))
    assert torch.equal(logits("h1", h2=ones), logits("h1", h2=zeros))
    assert not torch.equal(logits("h2", h1=ones), logits("h2", h1=zeros))


def test_recognition_network_shares_nothing_and_no_name():
    model = SFNN([2, 3, 3, 2])
    guide = RecognitionNetwork(model)
    assert not {id(p) for p in model.parameters()} & {id(p) for p in guide.parameters()}
    assert not set(model.state_dict()) & set(guide.state_dict())
    other = RecognitionNetwork(model)
    other.load_state_dict(guide.state_dict())


def test_recognition_network_under_pyros_own_loss():
    model = SFNN([2, 3, 2])
    svi = SVI(model, RecognitionNetwork(model), pyro.optim.SGD({"lr": 0.01}), Trace_ELBO())
    assert svi.step(torch.randn(4, 2), torch.rand(4, 2).round()) > 0


def test_recognition_network_refuses():
    model = SFNN([2, 3, 2])
    with pytest.raises(ValueError, match="width=-1"):
        RecognitionNetwork(model, width=-1)
    with pytest.raises(ValueError, match="y is missing"):
        RecognitionNetwork(model)(torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("share", "particles", "counts"),
    [(0.5, 20, (10, 10)), (0.01, 20, (1, 19)), (0.99, 20, (19, 1)), (0.25, 2, (1, 1))],
)
def test_mixture_counts(share, particles, counts):
    model = SFNN([2, 3, 2])
    mixture = MixtureProposal(PriorProposal(model), RecognitionNetwork(model), share)
    assert mixture.counts(particles) == counts


def test_mixture_refuses():
    model = SFNN([2, 3, 2])
    prior, guide = PriorProposal(model), RecognitionNetwork(model)
    x, y = torch.zeros(1, 2), torch.zeros(1, 2)
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="share="):
            MixtureProposal(prior, guide, share)
    with pytest.raises(ValueError, match="needs at least 2 to share"):
        G4(1).loss(model, MixtureProposal(prior, guide), x, y)
    with pytest.raises(ValueError, match="cannot be run as a guide itself"):
        MixtureProposal(prior, guide)(x, y)


def test_mixture_holds_the_parameters_of_its_guide_only():
    model = SFNN([2, 3, 2])
    guide = RecognitionNetwork(model)
    mixture = MixtureProposal(PriorProposal(model), guide)
    assert {id(p) for p in mixture.parameters()} == {id(p) for p in guide.parameters()}


def test_balance_heuristic_weights_by_hand():
    model = SFNN([2, 3, 2])
    guide = RecognitionNetwork(model, width=0)
    mixture = MixtureProposal(PriorProposal(model), guide, 0.25)
    x, y = torch.randn(6, 2), torch.rand(6, 2).round()
    particles = G4(8, max_plate_nesting=1).draw(model, mixture, (x, y), {})
    h = particles.latent[0].value  # (8, 6, 3)
    layer, output = model.layers

    def bernoulli(logits, value):
        p = torch.sigmoid(logits)
        return (value * p + (1 - value) * (1 - p)).prod(-1)

    prior = bernoulli(x @ layer.weight.T + layer.bias, h)
    context = torch.cat([x, y], -1)
    part = guide.from_context[0]
    learned = bernoulli(context @ part.weight.T + part.bias, h)
    joint = bernoulli(h @ output.weight.T + output.bias, y) * prior
    expected = joint / (0.25 * prior + 0.75 * learned)
    assert torch.allclose(particles.log_weight().exp(), expected)
    bound = bernoulli(h @ output.weight.T + output.bias, y) / 0.25
    assert (particles.log_weight().exp() <= bound * (1 + 1e-12)).all()
    assert [c.last - c.first for c in particles.components] == [2, 6]
    assert [c.is_prior for c in particles.components] == [True, False]


def test_two_learned_guides_may_share_too():
    model = SFNN([2, 3, 2])
    one = RecognitionNetwork(model, width=0)

    def other(x, y):
        with pyro.plate("data", len(x)):
            logits = pyro.param("q", torch.zeros(3)).expand(len(x), 3)
            pyro.sample("h1", pyro.distributions.Bernoulli(logits=logits).to_event(1))

    x, y = torch.randn(6, 2), torch.rand(6, 2).round()
    loss = VIMCO(4).loss_and_grads(model, MixtureProposal(one, other), x, y)
    assert loss > 0
    assert pyro.get_param_store()._params["q"].grad.any()


def test_prior_proposal_under_pyros_own_loss_and_on_a_plain_function():
    model = SFNN([2, 3, 2])
    svi = SVI(model, PriorProposal(model), pyro.optim.SGD({"lr": 0.01}), Trace_ELBO())
    assert svi.step(torch.randn(4, 2), torch.rand(4, 2).round()) > 0
