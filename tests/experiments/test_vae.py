"""The benchmark of discrete estimators: gradients, protocols, moments, interruptions, data."""

import json
import math
from dataclasses import replace
from functools import partial

import pyro
import pytest
import torch

from sfnn_pyro.data import DataError, load_images
from sfnn_pyro.estimators import ESTIMATORS, Compiled
from sfnn_pyro.experiments import vae_problems as vae
from sfnn_pyro.experiments.grid import GridError, Run, load_grid
from sfnn_pyro.experiments.runner import execute
from sfnn_pyro.system.stop_requests import Interrupted
from sfnn_pyro.training import GradientMoments
from tests.experiments.helpers import stop_at, tiny_images, use_tiny_data

RUN = Run(
    network="nonlinear-vae",
    proposal="encoder",
    hidden=(4,),
    estimator="disarm",
    particles=1,
    epochs=3,
    batch_size=8,
    learning_rate=0.01,
    test_particles=3,
)


@pytest.fixture
def tiny_data(monkeypatch):
    use_tiny_data(monkeypatch)


@pytest.mark.parametrize("network", ["linear-vae", "nonlinear-vae"])
@pytest.mark.parametrize("protocol", ["fixed-prior", "centred"])
def test_weights_are_those_by_hand(network, protocol):
    run = replace(RUN, network=network, protocol=protocol)
    model, guide = (part.double() for part in vae.make_vae(run, tiny_images("mnist")))
    x, y = torch.zeros(5, 0).double(), torch.rand(5, 12).round().double()
    with torch.no_grad():
        model.decoder[-1].bias.normal_()
    particles = ESTIMATORS["rloo"](2).draw(model, guide, (x, y), {})
    h = particles.components[0].terms[0].value  # (2, 5, 4)
    centred = protocol == "centred"
    logits = guide.encoder(y - guide.mean if centred else y)
    decoded = model.decoder(2 * h - 1 if centred else h)

    def law(a, value):
        a, value = torch.broadcast_tensors(a, value)
        return torch.distributions.Bernoulli(logits=a).log_prob(value).sum(-1)

    by_hand = law(decoded, y) - 4 * math.log(2) - law(logits, h)
    torch.testing.assert_close(particles.log_weight(), by_hand, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name, slope", [("g2", None), ("g3", "sigmoid"), ("reinmax", "half")])
def test_straight_through_the_encoder_is_that_by_hand(name, slope):
    run = replace(RUN, estimator=name, particles=2)
    model, guide = (part.double() for part in vae.make_vae(run, tiny_images("mnist")))
    estimator, drawn = vae.make_pair(run, guide)
    x, y = torch.zeros(5, 0).double(), torch.rand(5, 12).round().double()
    torch.manual_seed(3)
    particles = estimator.draw(model, drawn, (x, y), {})
    h = particles.components[0].terms[0].value.detach()  # (2, 5, 4)
    log_weight = particles.log_weight().detach()
    estimator.surrogate(particles, log_weight).backward()
    got = [p.grad.clone() for p in guide.parameters()]
    guide.zero_grad()
    a = guide.encoder(y)
    p = a if slope is None else torch.sigmoid(a)
    p = a * (h - p).detach().abs() / 2 if slope == "half" else p
    through = p + (h - p).detach()
    decoded = torch.distributions.Bernoulli(logits=model.decoder(through), validate_args=False)
    ours = torch.distributions.Bernoulli(logits=a.expand(2, 5, 4), validate_args=False)
    # log_prob of units is linear in the value: v a - softplus(a).
    density = (through * a - torch.nn.functional.softplus(a)).sum(-1)
    torch.testing.assert_close(density, ours.log_prob(h).sum(-1))
    (decoded.log_prob(y.expand(2, 5, 12)).sum(-1) - density).mean(0).sum().backward()
    for mine, parameter in zip(got, guide.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, atol=1e-10, rtol=1e-8)


def test_moments_are_those_of_the_gradients():
    parameter = torch.zeros(3, requires_grad=True)
    moments, values = GradientMoments([parameter], decay=0.9), torch.randn(50, 3)
    for value in values:
        parameter.grad = value.clone()
        moments.update()
    weight = 0.9 ** torch.arange(49, -1, -1.0)
    weight = (weight / weight.sum())[:, None]
    mean, second = (weight * values).sum(0), (weight * values**2).sum(0)
    assert moments.variance() == pytest.approx((second - mean**2).mean().item(), rel=1e-4)
    other = GradientMoments([parameter], decay=0.9)
    other.load_state_dict(moments.state_dict())
    assert other.variance() == moments.variance()


@pytest.mark.parametrize(
    "run",
    [
        RUN,
        replace(RUN, protocol="centred", estimator="g3", particles=2),
        replace(RUN, estimator="jsa", particles=2),
    ],
    ids=lambda r: r.name,
)
def test_an_interrupted_run_ends_with_the_same_result(run, tmp_path, tiny_data):
    whole = json.loads(execute(run, tmp_path / "whole").read_text())
    for number in (1, 2, 2):
        with pytest.raises(Interrupted, match="saved and will be resumed"):
            execute(run, tmp_path / "parts", on_progress=stop_at(number))
    parts = json.loads(execute(run, tmp_path / "parts").read_text())
    assert whole.pop("seconds") >= 0 and parts.pop("seconds") >= 0
    assert whole == parts
    assert whole["steps"] == 6 and whole["gradient_variance"] > 0
    assert whole["evaluations"]["trained"]["train"]["negative_bound"] > 0


GRIDS = ["vae", "vae-quick", "vae-linear", "vae-centred", "vae-anchor", "vae-others"]


def after_three_steps(run):
    """Trained parameters, and the moments that the run followed."""
    data = vae.load_vae_data(run)
    with pyro.get_param_store().scope():
        model, guide = vae.make_vae(run, data)
        trainer = vae.make_vae_trainer(run, model, guide, data)
        trainer.seed_random_state()
        for _ in range(3):
            trainer.step(torch.arange(8))
    return [p.detach() for p in trainer.trained], trainer.moments.variance()


@pytest.mark.parametrize("name", GRIDS)
def test_estimators_of_the_grids_take_the_encoder(name, tiny_data):
    for row in load_grid(name).rows:
        run = replace(row.run, hidden=(4,), compile=False)
        data = vae.load_vae_data(run)
        model, guide = vae.make_vae(run, data)
        vae.make_vae_trainer(run, model, guide, data).step(torch.arange(4))
        estimator, _ = vae.make_pair(row.run, guide)
        assert isinstance(estimator, Compiled) == row.run.compile
        if name not in ("vae", "vae-quick"):  # runs of before, and runs too short for it to pay
            assert row.run.compile == ESTIMATORS[run.estimator].replayable


@pytest.mark.parametrize("estimator", ["disarm", "rloo", "g3", "arms", "muprop"])
def test_recorded_steps_are_those_that_are_run_as_they_are(estimator, tiny_data, monkeypatch):
    monkeypatch.setattr(vae, "Compiled", partial(Compiled, compile=False))
    run = replace(RUN, estimator=estimator, particles=2)
    (plain, variance), (ours, other) = (
        after_three_steps(replace(run, compile=compile)) for compile in (False, True)
    )
    for one, two in zip(plain, ours, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)
    assert variance == pytest.approx(other, rel=1e-6)


@pytest.mark.slow
def test_compiled_steps_are_those_that_are_run_as_they_are(tiny_data):
    """Up to the rounding of float32, as which data sets are stored."""
    run = replace(RUN, estimator="disarm")
    (plain, _), (ours, _) = (
        after_three_steps(replace(run, compile=compile)) for compile in (False, True)
    )
    for one, two in zip(plain, ours, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_compiled_is_refused():
    with pytest.raises(GridError, match="compile of network='sfnn': only VAEs are compiled here"):
        Run(compile=True)
    with pytest.raises(GridError, match="compile: Compiled cannot record DoubleCV"):
        vae.make_pair(replace(RUN, estimator="doublecv", particles=2, compile=True), None)


def test_what_no_vae_has_is_refused():
    with pytest.raises(GridError, match="has one hidden layer and the proposal 'encoder'"):
        replace(RUN, proposal="prior")
    with pytest.raises(GridError, match="'g5' takes no guide, which a VAE needs"):
        vae.make_pair(replace(RUN, estimator="g5", particles=2), None)


def test_images_of_the_digits_are_their_grey_values():
    found = load_images("digits")
    assert found.train.x.shape == (1197, 0) and found.y_shape == (8, 8)
    assert found.test.y.min() >= 0 and found.test.y.max() == 1
    assert 0.2 < found.train.y.mean() < 0.4  # grey, neither counts to 16 nor drawn
    assert len(found.train.y.unique()) == 17


def test_images_of_an_unknown_name_are_refused():
    with pytest.raises(DataError, match="no images 'letters': choose one of digits, mnist, "):
        load_images("letters")
