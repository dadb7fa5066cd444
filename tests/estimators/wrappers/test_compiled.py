"""The recorded step is the step: same numbers, same errors, and never a frozen one."""

import copy
import functools
import pickle
import random
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam

from sfnn_pyro.data import Split
from sfnn_pyro.estimators import (
    ESTIMATORS,
    G1,
    G3,
    G4,
    G5,
    RLOO,
    VIMCO,
    Chunked,
    Compiled,
    DisARM,
    Lazy,
    Resampled,
    ReweightedWakeSleep,
)
from sfnn_pyro.estimators.wrappers import compiled
from sfnn_pyro.guides import MixtureProposal, PartialProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
from sfnn_pyro.recording import replays
from sfnn_pyro.training import Schedule, Trainer
from sfnn_pyro.training.optimizers import JointOptim


def replayed(estimator):
    """Recorded, and replayed without a compiler: the same operations in the same order."""
    return Compiled(estimator, compile=False)


def network(sizes=(4, 3, 5, 2), rows=6, likelihood="bernoulli", name="network"):
    torch.manual_seed(0)
    model = SFNN(list(sizes), likelihood, name=name)
    x, y = torch.rand(rows, sizes[0]).round(), torch.rand(rows, sizes[-1]).round()
    if likelihood == "categorical":
        y = y.argmax(-1)
    return model, x, y


def leaves_of(*programs):
    modules = [one for one in programs if isinstance(one, torch.nn.Module)]
    found = [p for module in modules for p in module.parameters()]
    return list(dict.fromkeys([*found, *pyro.get_param_store()._params.values()]))


def taken(estimator, model, guide, args, seed):
    """Loss, gradients and random state of a step from a seed."""
    for leaf in leaves_of(model, guide):
        leaf.grad = None
    torch.manual_seed(seed)
    loss = estimator.loss_and_grads(model, guide, *args)
    grads = [leaf.grad for leaf in leaves_of(model, guide)]
    return loss, grads, torch.get_rng_state()


def check_same(plain, recorded, model, guide, *args, steps=3, tolerance=1e-12):
    """Steps from the same random states: the same loss, gradients and random state after it."""
    for seed in range(steps):
        loss, grads, state = taken(plain, model, guide, args, seed)
        other, others, state_after = taken(recorded, model, guide, args, seed)
        assert other == pytest.approx(loss, rel=tolerance, abs=tolerance, nan_ok=True)
        for one, two in zip(grads, others, strict=True):
            assert (one is None) == (two is None)
            if one is not None:
                torch.testing.assert_close(two, one, rtol=tolerance, atol=tolerance)
        assert torch.equal(state, state_after)


def proposals(model):
    prior, recognition = PriorProposal(model), RecognitionNetwork(model)
    return {
        "prior": prior,
        "recognition": recognition,
        "mixture": MixtureProposal(prior, recognition),
    }


PAIRS = [
    (name, kind)
    for name, estimator in ESTIMATORS.items()
    for kind in ("prior", "recognition", "mixture")
    if ("guide" if kind == "recognition" else kind) in estimator.proposals
    # ARMS refuses the second layer of this network.
    if estimator.replayable and name != "arms"
]


def test_what_learns_from_step_to_step_is_refused():
    refused = {name for name, estimator in ESTIMATORS.items() if not estimator.replayable}
    assert refused == {"doublecv", "rebar", "relax", "nvil", "jsa"}
    for name in refused:
        with pytest.raises(ValueError, match=r"Compiled cannot record .* learns from step to step"):
            Compiled(ESTIMATORS[name](num_particles=3))


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_every_estimator_and_proposal(name, kind):
    model, x, y = network()
    estimator = ESTIMATORS[name]
    recorded = replayed(estimator(4))
    check_same(estimator(4), recorded, model, proposals(model)[kind], x, y)
    assert recorded.recordings == 1


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
def test_every_likelihood(likelihood):
    model, x, y = network(likelihood=likelihood)
    check_same(G3(4), replayed(G3(4)), model, PriorProposal(model), x, y)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Resampled(G3(6), 2),
        lambda: Resampled(G4(6), 3),
        lambda: ReweightedWakeSleep(4, insomnia=0.5, num_sleep_particles=2),
        lambda: VIMCO(4, mean="arithmetic"),
        lambda: G4(3, vectorize_particles=False),
        lambda: G4(1),
    ],
    ids=["resampled-g3", "resampled-g4", "sleep", "arithmetic", "sequential", "one"],
)
def test_options_and_wrappers_inside(make):
    model, x, y = network()
    sleeps = isinstance(make(), ReweightedWakeSleep)
    guide = RecognitionNetwork(model) if sleeps else PriorProposal(model)
    check_same(make(), replayed(make()), model, guide, x, y)


def test_other_guides():
    model, x, y = network()
    recognition = RecognitionNetwork(model)

    def some(x, y=None):
        with pyro.plate("data", len(x)):
            logits = pyro.param("q", torch.zeros(3))
            pyro.sample("h1", dist.Bernoulli(logits=logits.expand(len(x), 3)).to_event(1))

    check_same(VIMCO(4), replayed(VIMCO(4)), model, PartialProposal(model, some), x, y, steps=4)
    check_same(G4(4), replayed(G4(4)), model, recognition, x, y)

    def normal(x):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    pyro.clear_param_store()
    check_same(VIMCO(4), replayed(VIMCO(4)), normal, AutoNormal(normal), x[:, 0], steps=4)


SITES = {
    "Categorical": lambda p: dist.Categorical(logits=torch.stack([p, 0 * p, -p], -1)),
    "OneHot": lambda p: dist.OneHotCategorical(logits=torch.stack([p, 0 * p, -p], -1)),
    "Normal": lambda p: dist.Normal(p, 1.0),
    "Poisson": lambda p: dist.Poisson(p.exp()),
    "Gamma": lambda p: dist.Gamma(p.exp(), 1.0),
    "Bernoulli": lambda p: dist.Bernoulli(probs=p.sigmoid()),
    "Binomial": lambda p: dist.Binomial(5, logits=p),
    "Beta": lambda p: dist.Beta(p.exp(), 1.0),
}


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("validate", [True, False])
def test_other_sites_draw_anew(name, validate):
    def model(x):
        p = pyro.param("p", torch.tensor(0.3))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", SITES[name](p + 0 * x))
            z = z.sum(-1) if name == "OneHot" else z
            pyro.sample("x", dist.Normal(z.to(x.dtype), 1.0), obs=x)

    x = torch.randn(5)
    model(x)
    with pyro.validation_enabled(validate):
        recorded = replayed(VIMCO(4))
        check_same(VIMCO(4), recorded, model, PriorProposal(model), x)
        assert recorded.recordings == 1
        losses = [recorded.loss_and_grads(model, PriorProposal(model), x) for _ in range(4)]
    if name != "OneHot":  # whose sum is one
        assert len(set(losses)) == 4


def test_random_bits_are_the_same_in_a_graph():
    """In float32 and large enough, draws are from sixteen bits each, and some are undecided."""
    torch.set_default_dtype(torch.float32)
    model, x, y = network((50, 120, 90, 30), rows=40)
    for estimator in (G3, G5):
        args = model, PriorProposal(model), x, y
        check_same(estimator(40), replayed(estimator(40)), *args, tolerance=1e-5)


def test_new_numbers_in_every_replay_and_the_same_from_a_seed():
    model, x, y = network()
    guide, elbo = PriorProposal(model), replayed(G4(3))
    runs = []
    for _ in range(2):
        torch.manual_seed(1)
        runs.append([elbo.loss_and_grads(model, guide, x, y) for _ in range(20)])
    assert runs[0] == runs[1] and len(set(runs[0])) == 20


def test_layers_of_one_size_draw_different_numbers():
    torch.set_default_dtype(torch.float32)
    n = 90

    def model(x):
        bias = pyro.param("bias", torch.zeros(n))
        with pyro.plate("data", len(x)):
            one = pyro.sample("one", dist.Bernoulli(logits=bias.expand(len(x), n)).to_event(1))
            two = pyro.sample("two", dist.Bernoulli(logits=bias.expand(len(x), n)).to_event(1))
            pyro.sample("x", dist.Normal(((one - two) ** 2).sum(-1), 1.0), obs=x)

    x = torch.full((40,), n / 2)
    model(x)
    elbo = replayed(G4(2))
    losses = [elbo.loss_and_grads(model, PriorProposal(model), x) for _ in range(3)]
    assert max(losses) < 40 * n  # 40 * n ** 2 / 8, were the layers equal


def test_svi_and_the_trainer_and_the_module():
    torch.set_default_dtype(torch.float32)
    finals = []
    for wrap in (lambda one: one, replayed):
        pyro.clear_param_store()
        model, x, y = network()
        optim = JointOptim(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
        svi = SVI(model, PriorProposal(model), optim, wrap(G5(4)))
        losses = [svi.step(x, y) for _ in range(5)]
        module = wrap(VIMCO(4))(model, PriorProposal(model))
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            (module(x, y) / 3).backward()
            optimizer.step()
        data = Split(x, y)
        guide = PriorProposal(model)
        trainer = Trainer(model, guide, wrap(G3(3)), data, data, Schedule(epochs=3, batch_size=4))
        epochs = [epoch.train_log_likelihood for epoch in trainer.run()]
        finals.append([*losses, *epochs, *(p.sum().item() for p in model.parameters())])
    assert finals[1] == pytest.approx(finals[0], rel=1e-4)


def test_gradients_add_up_and_belong_to_the_caller():
    model, x, y = network()
    guide, elbo = PriorProposal(model), replayed(G4(3))
    weight = model.layers[0].weight
    torch.manual_seed(1)
    elbo.loss_and_grads(model, guide, x, y)
    first = weight.grad.clone()
    kept = weight.grad
    torch.manual_seed(1)
    elbo.loss_and_grads(model, guide, x, y)
    assert kept is weight.grad
    torch.testing.assert_close(weight.grad, 2 * first)
    seen = []
    weight.register_hook(lambda grad: seen.append(grad) or 2 * grad)
    model.zero_grad()
    torch.manual_seed(1)
    elbo.loss_and_grads(model, guide, x, y)
    torch.testing.assert_close(weight.grad, 2 * first)
    assert len(seen) == 1


def test_gradients_that_are_one_tensor_are_two():
    def model(x):
        a, b = pyro.param("a", torch.zeros(())), pyro.param("b", torch.zeros(()))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(a + b, 1.0), obs=x)

    x = torch.ones(4)
    model(x)
    elbo, guide = replayed(G4(2)), PriorProposal(model)
    for _ in range(2):
        pyro.get_param_store().clear()
        model(x)
        elbo.loss_and_grads(model, guide, x)
        elbo.loss_and_grads(model, guide, x)
        a, b = (pyro.param(name).unconstrained() for name in "ab")
        a.grad.zero_()
        assert b.grad.item() != 0


def test_gradient_of_a_gradient_is_refused():
    model, x, y = network()
    loss = replayed(G4(3))(model, PriorProposal(model))(x, y)
    with pytest.raises(RuntimeError, match="has no derivative"):
        torch.autograd.grad(loss, list(model.parameters()), create_graph=True)


def test_arguments_get_their_gradients():
    model, x, y = network()
    encoder = torch.nn.Linear(4, 4)
    found = []
    for elbo in (G4(3), replayed(G4(3))):
        module = elbo(model, PriorProposal(model))
        for seed in range(2):
            encoder.zero_grad()
            torch.manual_seed(seed)
            module(encoder(x), y).backward()
        found.append(encoder.weight.grad.clone())
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(*found)


def test_without_gradients_nothing_is_recorded():
    model, x, y = network()
    elbo, guide = replayed(G4(3)), PriorProposal(model)
    assert elbo.loss(model, guide, x, y) > 0
    with torch.no_grad():
        assert not elbo.differentiable_loss(model, guide, x, y).requires_grad
    assert elbo.recordings == 0


def test_lazy_outside():
    model, x, y = network()
    svi = SVI(model, PriorProposal(model), pyro.optim.SGD({"lr": 0.1}), Lazy(replayed(G3(3))))
    assert all(float(svi.step(x, y)) > 0 for _ in range(3))


def test_steps_in_parts_are_refused():
    with pytest.raises(ValueError, match="Compiled cannot record Chunked"):
        Compiled(Chunked(VIMCO(6), 3))


# What a recording would freeze is recorded anew.


@pytest.fixture
def counted():
    """Takes a step of a small network and says how many recordings it made."""
    model, x, y = network()
    elbo, guide = replayed(G4(3)), PriorProposal(model)
    elbo.loss_and_grads(model, guide, x, y)

    def count(x=x, y=y, model=model):
        before = elbo.recordings
        check_same(G4(3), elbo, model, PriorProposal(model), x, y, steps=1)
        return elbo.recordings - before

    assert count() == 0
    return count, model, x, y


def test_shapes_and_settings(counted):
    count, _, x, y = counted
    assert (count(x[:4], y[:4]), count()) == (1, 0)
    with poutine.scale(scale=0.5):
        assert (count(), count()) == (1, 0)
    with poutine.scale(scale=0.25):
        assert count() == 1
    with pyro.validation_enabled(False):
        assert (count(), count()) == (1, 0)
    with torch.autocast("cpu", torch.bfloat16), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of autocast, about float64
        assert (count(), count()) == (1, 0)
    assert count(x, y.t().contiguous().t()) == 1  # of other strides
    assert count() == 0


def test_parameters(counted):
    count, model, *_ = counted
    with torch.no_grad():
        model.layers[0].weight.mul_(2.0)
    assert count() == 0
    model.layers[1].weight.requires_grad_(False)
    assert (count(), count()) == (1, 0)
    model.layers[1].weight.requires_grad_(True)
    assert count() == 0
    pyro.clear_param_store()
    assert count() == 0
    pyro.clear_param_store()
    model.layers[0].bias = torch.nn.Parameter(torch.ones(3))
    assert (count(), count()) == (1, 0)
    model.train(False)
    assert count() == 1


def test_a_parameter_made_by_the_first_step():
    def model(x):
        p = pyro.param("p", lambda: torch.randn(()))
        s = pyro.param("s", torch.tensor(2.0), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=p).expand([len(x)]))
            pyro.sample("x", dist.Normal(z, s), obs=x)

    x = torch.rand(5)
    values = []
    for elbo in (VIMCO(3), replayed(VIMCO(3))):
        pyro.clear_param_store()
        pyro.set_rng_seed(3)
        svi = SVI(model, PriorProposal(model), pyro.optim.SGD({"lr": 0.1}), elbo)
        losses = [svi.step(x) for _ in range(4)]
        values.append([*losses, pyro.param("p").item(), pyro.param("s").item()])
    assert values[1] == pytest.approx(values[0], rel=1e-12)
    assert elbo.recordings == 1


def test_another_tensor_among_the_arguments_or_none():
    model, x, y = network()

    def twice(x, y, beta=1.0, more=None):
        with poutine.scale(scale=beta):
            model(x, y)

    guide, elbo = PriorProposal(twice), replayed(G4(3))
    for kwargs in ({}, {"beta": 0.5}, {"beta": 1}, {"more": [x, y]}, {"more": [x, x]}):
        for _ in range(2):
            elbo.loss_and_grads(twice, guide, x, y, **kwargs)
    assert elbo.recordings == 5
    with pytest.raises(ValueError, match="argument 'more' of the model is a ndarray"):
        elbo.loss_and_grads(twice, guide, x, y, more=np.ones(3))


class Tempered(PyroModule):
    """A model with a number, a buffer, a dictionary and a global of its own."""

    def __init__(self):
        super().__init__()
        self.rate = 0.5
        self.table = {"shift": 0.0}
        self.weight = PyroParam(torch.tensor(0.7), constraint=dist.constraints.positive)
        self.register_buffer("offset", torch.tensor(0.1))

    def forward(self, x):
        logits = self.weight * (x + self.offset) * self.rate + self.table["shift"] + SHIFT
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Bernoulli(logits=logits))
            pyro.sample("x", dist.Normal(h, helper()), obs=x)


SHIFT = 0.0
SPREAD = [1.0]


def helper():
    return SPREAD[0]


def test_numbers_of_the_model(monkeypatch):
    model, x = Tempered(), torch.rand(6)
    recorded = replayed(VIMCO(4))

    def count():
        before = recorded.recordings
        check_same(VIMCO(4), recorded, model, PriorProposal(model), x, steps=2)
        return recorded.recordings - before

    model(x)
    assert (count(), count()) == (1, 0)
    model.rate = 0.25
    assert count() == 1
    model.rate = 0.5
    assert count() == 0  # the first recording still holds
    model.table["shift"] = 1.0
    assert count() == 1
    model.offset.add_(1.0)
    assert count() == 0
    model.offset = torch.tensor(3.0)
    assert count() == 1
    monkeypatch.setitem(globals(), "SHIFT", 0.5)
    assert count() == 1
    monkeypatch.setitem(globals(), "SPREAD", [2.0])
    assert count() == 1
    SPREAD[0] = 3.0
    assert count() == 1
    model.array = np.zeros(3)
    assert count() == 1
    model.array[1] = 1.0
    assert count() == 1
    model.extra = "unused"  # or not: it may stand before an attribute of the class
    assert count() == 1
    model.extra = "used"
    assert count() == 1


def test_numbers_in_closures_and_of_the_estimator():
    x, beta, shift = torch.rand(6), 0.5, torch.zeros(6)

    def model(x, *, gain=1.0):
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Bernoulli(logits=beta * x * gain + shift))
            pyro.sample("x", dist.Normal(h, 1.0), obs=x)

    estimator = G5(4)
    recorded, guide = replayed(estimator), PriorProposal(model)

    def value():
        torch.manual_seed(0)
        found = recorded.loss_and_grads(model, guide, x)
        torch.manual_seed(0)
        assert found == pytest.approx(estimator.loss(model, guide, x), rel=1e-12)
        return recorded.recordings

    assert (value(), value()) == (1, 1)
    beta = 2.0
    assert value() == 2
    shift = torch.ones(6)
    assert value() == 3
    shift += 1
    assert value() == 3
    model.__kwdefaults__["gain"] = 3.0
    assert value() == 4
    estimator.c = 0.0
    assert value() == 5


def test_many_recordings_are_said_and_the_step_is_run(monkeypatch):
    monkeypatch.setattr(compiled, "MOST", 3)
    model, x, y = network()
    elbo, guide = replayed(G4(2)), PriorProposal(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(compiled.MOST + 3):
            with poutine.scale(scale=1.0 + step):
                assert elbo.loss_and_grads(model, guide, x, y) > 0
    assert elbo.recordings == compiled.MOST
    messages = [str(one.message) for one in caught]
    assert len(messages) == 1 and "the arguments or the settings changed" in messages[0]


# Looks at numbers.


def test_nan_is_the_same_error_in_a_replay():
    model, x, y = network()
    guide, elbo = PriorProposal(model), replayed(G3(3))
    elbo.loss_and_grads(model, guide, x, y)
    bad = x.clone()
    bad[2, 1] = torch.nan
    with pytest.raises(ValueError) as plain:
        G3(3).loss_and_grads(model, guide, bad, y)
    state = torch.get_rng_state()
    with pytest.raises(ValueError) as again:
        elbo.loss_and_grads(model, guide, bad, y)
    first_lines = {str(one.value).splitlines()[0] for one in (plain, again)}
    assert len(first_lines) == 1 and "site 'h1'" in first_lines.pop()
    assert elbo.recordings == 1
    torch.set_rng_state(state)
    with pytest.raises(ValueError, match=r"outside the support of a Bernoulli"):
        elbo.loss_and_grads(model, guide, x, y + 0.5)
    with torch.no_grad():
        model.layers[2].bias.fill_(torch.nan)
    with pytest.warns(UserWarning, match="site 'y'"):
        elbo.loss_and_grads(model, guide, x, y)


def test_pyros_own_checks_are_conditions():
    def model(x, rate):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Poisson(rate))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    elbo, guide = replayed(G4(3)), PriorProposal(model)
    x, rate = torch.rand(4), torch.ones(4)
    for _ in range(2):
        elbo.loss_and_grads(model, guide, x, rate)
    with pytest.raises(ValueError, match="Expected parameter rate"):
        elbo.loss_and_grads(model, guide, x, -rate)


def branching(x, p):
    if (p > 0).all():
        p = 2 * p
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Bernoulli(logits=p))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_a_branch_that_goes_the_other_way_is_taken():
    guide, recorded = PriorProposal(branching), replayed(VIMCO(3))
    x = torch.rand(5)
    p = torch.ones(5, requires_grad=True)
    for value in (1.0, -1.0, 2.0, -3.0):
        results = []
        for elbo in (VIMCO(3), recorded):
            p = torch.full((5,), value, requires_grad=True)
            torch.manual_seed(0)
            loss = elbo.loss_and_grads(branching, guide, x, p)
            results.append((loss, p.grad, torch.get_rng_state()))
        assert results[0][0] == pytest.approx(results[1][0], rel=1e-12)
        torch.testing.assert_close(results[0][1], results[1][1])
        assert torch.equal(results[0][2], results[1][2])
    assert recorded.recordings == 1
    with pytest.warns(UserWarning, match=r"branches on numbers at .*test_compiled\.py, line"):
        for _ in range(compiled.MOST):
            recorded.loss_and_grads(branching, guide, x, p)


def model_of(what):
    """A model that does something with x on the way."""

    def model(x):
        x = what(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5).expand([len(x)]))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    return model


class Counter:
    calls = 0

    def __call__(self, x):
        self.calls += 1
        return x + 0.1 * self.calls


class Noisy:
    def __call__(self, x):
        return x + random.random()


def with_own_generator(x, generator=torch.Generator()):  # noqa: B008
    return x + torch.rand(x.shape, generator=generator)


def in_place(x, total=torch.zeros(())):  # noqa: B008
    total += 1
    return x + total


@functools.cache
def hidden():
    return torch.ones(5)


def forked(x):
    with torch.random.fork_rng(()):
        return x + torch.rand_like(x)


REFUSED = {
    "number": (lambda x: x * x.sum().item(), r"test_compiled\.py, line .*reads a number"),
    "float": (lambda x: x * float(x.mean()), "reads a number"),
    "list": (lambda x: x + sum(x.tolist()), "becomes numbers of Python or NumPy"),
    "numpy": (lambda x: x + x.numpy().sum(), "becomes numbers of Python or NumPy"),
    "asarray": (lambda x: x + np.asarray(x).sum(), "becomes numbers of Python or NumPy"),
    "mask": (lambda x: x[x > 0.0], "shape that 'index' returns depends on numbers"),
    "nonzero": (lambda x: x[x.nonzero()[:, 0]], "shape that 'nonzero' returns"),
    "counter": (Counter(), "calls changes whenever the model runs"),
    "random": (Noisy(), "two runs of the step are different programs"),
    "numpy random": (lambda x: x + np.random.rand(), "two runs of the step are different"),
    "generator": (with_own_generator, "drawn from a generator of their own"),
    "fork": (forked, "a replay does not repeat the recording"),
    "in place": (in_place, "in place"),
    "hidden": (lambda x: x + hidden(), "neither an argument nor a parameter"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_replay_repeats_is_refused(name):
    what, message = REFUSED[name]
    model, x = model_of(what), torch.rand(5) + 0.1
    with pytest.raises(ValueError, match=message) as error:
        replayed(G4(3)).loss_and_grads(model, PriorProposal(model), x)
    assert "Compiled" in str(error.value)


def test_handlers_around_the_step():
    model, x, y = network()
    elbo, guide = replayed(G4(3)), PriorProposal(model)
    with poutine.condition(data={"h1": torch.ones(6, 3)}), pytest.raises(ValueError) as error:
        elbo.loss_and_grads(model, guide, x, y)
    assert "a ConditionMessenger is active around the step" in str(error.value)
    with poutine.scale(scale=torch.tensor(2.0)), pytest.raises(ValueError, match="with a tensor"):
        elbo.loss_and_grads(model, guide, x, y)
    given = poutine.condition(model, data={"h1": torch.ones(6, 3)})
    check_same(G4(3), elbo, given, PriorProposal(given), x, y)


def test_a_minibatch_that_the_model_draws_is_drawn_in_every_replay():
    def model(x):
        p = pyro.param("p", torch.tensor(0.2))
        with pyro.plate("data", len(x), subsample_size=3) as rows:
            h = pyro.sample("h", dist.Bernoulli(p).expand([3]))
            pyro.sample("y", dist.Normal(h, 1.0), obs=x[rows])

    x = torch.arange(8.0)
    model(x)
    recorded = replayed(VIMCO(3))
    check_same(VIMCO(3), recorded, model, PriorProposal(model), x, steps=5)
    assert recorded.recordings == 1


def test_averages_are_part_of_the_graph():
    model, x, y = network()
    plain, recorded, guide = G1(3), replayed(G1(3)), PriorProposal(model)
    check_same(plain, recorded, model, guide, x, y, steps=5)
    for name in ("h1", "h2"):
        torch.testing.assert_close(recorded.estimator.baseline(name), plain.baseline(name))
    assert recorded.recordings == 1  # the first step of all makes the averages, and is run


@pytest.mark.parametrize("estimator", [lambda: G1(3), lambda: G3(3)])
def test_a_resumed_training_ends_with_the_same_bits(estimator):
    torch.set_default_dtype(torch.float32)

    def trainer():
        pyro.clear_param_store()
        model, x, y = network()
        data = Split(x, y)
        guide = PriorProposal(model)
        schedule = Schedule(epochs=4, batch_size=4)
        return Trainer(model, guide, replayed(estimator()), data, data, schedule)

    whole = trainer()
    list(whole.run())
    part = trainer()
    runs = part.run()
    next(runs), next(runs)
    state = copy.deepcopy(part.state_dict())
    resumed = trainer()
    resumed.load_state_dict(state)
    list(resumed.run())
    for one, other in zip(whole.trained, resumed.trained, strict=True):
        assert torch.equal(one, other)
    assert whole.history == resumed.history


def test_module_local_parameters():
    with pyro.settings.context(module_local_params=True):
        model, x = Tempered(), torch.rand(6)
        recorded = replayed(VIMCO(4))
        check_same(VIMCO(4), recorded, model, PriorProposal(model), x)
        assert recorded.recordings == 1
        svi = SVI(model, PriorProposal(model), pyro.optim.SGD({"lr": 0.1}), recorded)
        before = model.weight.item()
        svi.step(x)
        assert model.weight.item() != before


def test_methods_and_copies():
    class Net:
        def __init__(self):
            self.p = torch.tensor(0.3, requires_grad=True)

        def model(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Bernoulli(logits=self.p).expand([len(x)]))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    net, x = Net(), torch.rand(5)
    elbo = replayed(VIMCO(3))
    for _ in range(3):
        net.p.grad = None
        elbo.loss_and_grads(net.model, PriorProposal(net.model), x)
        assert net.p.grad is not None
    assert elbo.recordings == 1
    assert copy.deepcopy(elbo).recordings == 0
    model, x, y = network()
    elbo = replayed(VIMCO(3))
    elbo.loss_and_grads(model, PriorProposal(model), x, y)
    other = pickle.loads(pickle.dumps(elbo))
    assert other.recordings == 0 and other.loss_and_grads(model, PriorProposal(model), x, y) > 0


# Compilation.


def test_without_a_compiler_the_recording_is_replayed_and_that_is_said_once(monkeypatch):
    monkeypatch.setattr(replays, "_warned", set())
    monkeypatch.setattr(replays, "missing_compiler", lambda kind: "no C++ compiler was found")
    model, x, y = network()
    elbo, guide = Compiled(G4(3)), PriorProposal(model)
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler was found: recorded steps are"):
        elbo.loss_and_grads(model, guide, x, y)
    elbo.loss_and_grads(model, guide, x[:3], y[:3])
    assert elbo.recordings == 2


def test_the_compiler_is_looked_for(monkeypatch):
    from torch._inductor import cpp_builder, exc

    def none():
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    assert "no C++ compiler" in replays.missing_compiler("cpu")


@pytest.mark.slow
@pytest.mark.parametrize("bfloat16", [False, True])
def test_compiled_by_inductor(bfloat16):
    if replays.missing_compiler("cpu"):
        pytest.skip("needs a C++ compiler")
    torch.set_default_dtype(torch.float32)
    model, x, y = network((20, 30, 25, 10), rows=20)
    guide, elbo = PriorProposal(model), Compiled(G3(20))
    tolerance = 0.05 if bfloat16 else 1e-4
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        for seed in range(3):
            loss, grads, state = taken(G3(20), model, guide, (x, y), seed)
            other, others, after = taken(elbo, model, guide, (x, y), seed)
            assert other == pytest.approx(loss, rel=1e-2 if bfloat16 else 1e-5)
            for one, two in zip(grads, others, strict=True):
                torch.testing.assert_close(two, one, rtol=tolerance, atol=tolerance)
            assert torch.equal(state, after)
        bad = x.clone()
        bad[3, 2] = torch.nan
        with pytest.raises(ValueError, match="site 'h1'"):
            elbo.loss_and_grads(model, guide, bad, y)
    assert elbo.recordings == 1


@pytest.mark.slow
def test_other_sites_compiled_by_inductor():
    if replays.missing_compiler("cpu"):
        pytest.skip("needs a C++ compiler")

    def model(x):
        p = pyro.param("p", torch.tensor(0.3))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(logits=torch.stack([p + 0 * x, -p + x], -1)))
            u = pyro.sample("u", dist.Normal(p + z, 1.0))
            h = pyro.sample("h", dist.Bernoulli(logits=p + u))
            pyro.sample("x", dist.Normal(h + z + u, 1.0), obs=x)

    x = torch.randn(5)
    model(x)
    check_same(VIMCO(4), Compiled(VIMCO(4)), model, PriorProposal(model), x, tolerance=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [DisARM(1), RLOO(2)], ids=["disarm", "rloo"])
def test_few_particles_compiled_by_inductor(estimator):
    """Weights of nobody else are constants, which the compiler must not choke on."""
    if replays.missing_compiler("cpu"):
        pytest.skip("needs a C++ compiler")
    model, x, y = network((4, 5, 3), rows=6)
    guide = RecognitionNetwork(model)
    check_same(estimator, Compiled(estimator), model, guide, x, y, tolerance=1e-9)
