import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive

from sfnn_pyro.estimators import G3
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from tests.statistics import same_mean


def test_sites_and_shapes():
    model = SFNN([4, 3, 2, 5])
    trace = poutine.trace(model).get_trace(torch.zeros(6, 4))
    shapes = {n: tuple(s["value"].shape) for n, s in trace.nodes.items() if n in ("h1", "h2", "y")}
    assert shapes == {"h1": (6, 3), "h2": (6, 2), "y": (6, 5)}
    for name in ("h1", "h2", "y"):
        frames = [frame.name for frame in trace.nodes[name]["cond_indep_stack"]]
        assert frames == ["data"]


def test_predictive_has_the_models_probabilities():
    model = SFNN([2, 3, 1])
    torch.nn.init.normal_(model.layers[1].weight)
    from sfnn_pyro.evaluation.exact import exact_log_likelihood

    x = torch.randn(1, 2)
    drawn = Predictive(model, num_samples=40_000, parallel=True)(x)["y"]
    exact = exact_log_likelihood(model, x, torch.ones(1, 1)).exp()
    assert same_mean(drawn.flatten(), exact)


def test_condition_and_intervention_reach_the_layers():
    model = SFNN([2, 3, 4])
    h = torch.ones(1, 3)
    trace = poutine.trace(poutine.condition(model, data={"h1": h})).get_trace(torch.zeros(1, 2))
    logits = h @ model.layers[1].weight.T + model.layers[1].bias
    assert torch.allclose(trace.nodes["y"]["fn"].base_dist.logits, logits)
    assert trace.nodes["h1"]["is_observed"]


def test_state_dict_round_trip():
    one, other = SFNN([3, 4, 2]), SFNN([3, 4, 2])
    other.load_state_dict(one.state_dict())
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert list(one.state_dict()) == [
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
    ]


def test_subsampled_plate_has_the_scale():
    trace = poutine.trace(SFNN([3, 4, 2], data_size=60)).get_trace(torch.zeros(5, 3))
    assert trace.nodes["h1"]["scale"] == 12
    assert trace.nodes["y"]["scale"] == 12


def test_gaussian_and_categorical_outputs():
    x = torch.randn(5, 3)
    gaussian = poutine.trace(SFNN([3, 4, 2], "gaussian")).get_trace(x, torch.randn(5, 2))
    fn = gaussian.nodes["y"]["fn"]
    assert fn.event_dim == 1 and (fn.base_dist.scale == 1).all()
    categorical = SFNN([3, 4, 6], "categorical")
    assert categorical(x).shape == (5,)
    labels = torch.arange(5)
    trace = poutine.trace(categorical).get_trace(x, labels)
    assert torch.equal(trace.nodes["y"]["value"], labels)


def test_no_inputs_at_all():
    model = SFNN([0, 3, 2])
    x, y = torch.zeros(5, 0), torch.rand(5, 2).round()
    assert model(x).shape == (5, 2)
    assert G3(3).loss_and_grads(model, PriorProposal(model), x, y) > 0


def test_initial_pre_activations_have_the_stated_spread():
    model = SFNN([500, 2000, 2])
    weight = model.layers[0].weight.detach()
    assert same_mean(weight.flatten(), 0.0)
    assert same_mean(weight.flatten().square(), 1 / 500)
    x = torch.rand(200, 500).round()
    # of every unit, over datapoints: half of the inputs are one
    assert same_mean((x @ weight.T).square().mean(0), x.square().sum(1).mean() / 500)
    assert not model.layers[0].bias.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SFNN([3, 2]), "sizes="),
        (lambda: SFNN([3, 0, 2]), "sizes="),
        (lambda: SFNN([3, 2, 2], "poisson"), "likelihood='poisson'"),
        (lambda: SFNN([3, 2, 2], data_size=0), "data_size=0"),
        (lambda: SFNN([3, 2, 2])(torch.zeros(5, 4)), "x has shape"),
        (lambda: SFNN([3, 2, 2])(torch.zeros(0, 3)), "x has shape"),
        (lambda: SFNN([3, 2, 2])(torch.zeros(5, 3), torch.zeros(5, 3)), "y has shape"),
        (lambda: SFNN([3, 2, 2], data_size=4)(torch.zeros(5, 3)), "larger than data_size"),
        (
            lambda: SFNN([3, 2, 4], "categorical")(torch.zeros(1, 3), torch.tensor([4])),
            "4",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
