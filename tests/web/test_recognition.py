"""The recognition network that is trained for partly known outputs."""

import pytest
import torch
from pyro import poutine

from sfnn_pyro.evaluation.imputation import impute
from sfnn_pyro.system.weight_files import write_weights
from sfnn_pyro.web.recognition_training import (
    FILL,
    load_recognition,
    random_mask,
    save_recognition,
    start_from_prior,
    train_recognition,
)
from tests.first_format import write_first_format
from tests.web.networks import network, pictures


@pytest.fixture(autouse=True)
def _as_a_program():
    torch.set_default_dtype(torch.float32)


def test_masks_show_from_nothing_to_everything():
    y = (torch.rand(4000, 48) < 0.3).double()
    share = random_mask(y, (6, 8)).double().mean(1)
    assert share.min() == 0 and share.max() == 1
    assert 0.1 < share.mean() < 0.4


def test_half_of_the_masks_show_ink_alone():
    blank, full = (
        random_mask(torch.full((4000, 48), value), (6, 8)).any(1) for value in (0.0, 1.0)
    )
    assert abs(blank.double().mean() / full.double().mean() - 0.5) < 0.05


def test_starts_as_the_prior():
    data = pictures(2, 3)
    model = network(data, 5, 4)
    guide = start_from_prior(model)
    x, y = torch.rand(7, 6).round(), torch.rand(7, 6)
    trace = poutine.trace(model).get_trace(x)
    hidden = {name: trace.nodes[name]["value"] for name in ("h1", "h2")}
    proposed = poutine.trace(poutine.condition(guide, hidden)).get_trace(x, y)
    trace.compute_log_prob()
    proposed.compute_log_prob()
    for name in hidden:
        pair = trace.nodes[name]["log_prob"], proposed.nodes[name]["log_prob"]
        assert torch.allclose(*pair, atol=1e-5)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_training_raises_the_effective_sample_size(likelihood):
    data = pictures(2, 3, likelihood, count=400)
    model = network(data, 6)
    with torch.no_grad():
        model.layers[-1].weight.mul_(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    guide = train_recognition(model, data.train.x, (2, 3), epochs=60, learning_rate=0.01)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    known = torch.arange(6) < 3
    x = data.test.x[:100]
    y = poutine.trace(model).get_trace(x).nodes["y"]["value"]
    options = {"num_particles": 100, "fill": FILL, "poor": 0.0}
    prior = impute(model, x, y, known, **options).effective_sample_size
    trained = impute(model, x, y, known, guide=guide, **options).effective_sample_size
    assert trained.median() > 1.3 * prior.median()


def test_the_same_seed_gives_the_same_network_and_leaves_the_random_state():
    data = pictures(2, 3)
    model = network(data, 4)
    state = torch.get_rng_state()
    first, second = (train_recognition(model, data.train.x, (2, 3), epochs=2) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_at_least_one_epoch():
    data = pictures(2, 3)
    with pytest.raises(ValueError, match="epochs=0"):
        train_recognition(network(data, 4), data.train.x, (2, 3), epochs=0)


def test_saved_and_loaded(tmp_path):
    data = pictures(2, 3)
    model, path = network(data, 4), tmp_path / "recognition.safetensors"
    guide = start_from_prior(model)
    save_recognition(guide, path)
    read = load_recognition(model, path)
    for a, b in zip(guide.parameters(), read.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="belongs to another network"):
        load_recognition(network(data, 5), path)
    write_weights(path, "model", {}, {})
    with pytest.raises(ValueError, match="is a file of kind 'model 2'"):
        load_recognition(model, path)
    write_first_format(path, "recognition 1", {"state": guide.state_dict()})
    for a, b in zip(guide.parameters(), load_recognition(model, path).parameters(), strict=True):
        assert torch.equal(a, b)
    whole = guide.state_dict()
    name = next(iter(whole))
    for crafted in ({**whole, name: whole[name] * float("nan")}, {**whole, name: None}, 3, None):
        contents = {} if crafted is None else {"state": crafted}
        write_first_format(path, "recognition 1", contents)
        with pytest.raises(ValueError, match="belongs to another network"):
            load_recognition(model, path)
