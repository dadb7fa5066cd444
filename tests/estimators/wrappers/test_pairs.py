"""Every wrapper around every estimator and wrapper: in SVI, in a trainer, as a module."""

import copy
import itertools

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

from sfnn_pyro.data import Split
from sfnn_pyro.distributed import ParticleParallel, ProcessGroup
from sfnn_pyro.estimators import (
    G1,
    G3,
    G4,
    VIMCO,
    Chunked,
    Coefficients,
    Compiled,
    DisARM,
    Estimator,
    Lazy,
    LazyLoss,
    Resampled,
    ReweightedWakeSleep,
    WrappedEstimator,
)
from sfnn_pyro.guides import PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
from sfnn_pyro.training import Schedule, Trainer

PLAIN = {
    "G1": lambda: G1(4),
    "G3": lambda: G3(4),
    "G4": lambda: G4(4),
    "VIMCO": lambda: VIMCO(4),
    "DisARM": lambda: DisARM(4),
    "wake-sleep": lambda: ReweightedWakeSleep(4, insomnia=0.5),
}
WRAPPERS = {
    "Chunked": lambda inner: Chunked(inner, 2),
    "Resampled": lambda inner: Resampled(inner, 2),
    "Compiled": lambda inner: Compiled(inner, compile=False),
    "Lazy": Lazy,
    "ParticleParallel": lambda inner: ParticleParallel(inner, ProcessGroup(0, 1)),
}
WHOLE = "needs all its particles at once"
OUTERMOST = "changes what svi.step returns and nothing else: put it outermost, Lazy("
MORE = "weights particles by more than their responsibilities"
REFUSED = {
    **{("Chunked", name): WHOLE for name in ("G1", "DisARM", "wake-sleep", "Chunked")},
    **{("ParticleParallel", name): WHOLE for name in ("G1", "DisARM", "wake-sleep", "Chunked")},
    **{("Resampled", name): MORE for name in ("G1", "VIMCO", "DisARM", "wake-sleep")},
    **{("Resampled", name): MORE for name in ("Chunked", "Compiled", "Resampled")},
    ("Resampled", "ParticleParallel"): MORE,
    ("Chunked", "Resampled"): "chooses among all its particles",
    ("ParticleParallel", "Resampled"): "chooses among all its particles",
    ("Chunked", "Compiled"): "replays a whole step",
    ("ParticleParallel", "Compiled"): "replays a whole step",
    ("Chunked", "ParticleParallel"): "divides its particles over processes",
    ("ParticleParallel", "ParticleParallel"): "divides its particles over processes",
    **{("Compiled", name): "cannot record" for name in ("Chunked", "ParticleParallel")},
    ("Compiled", "Compiled"): "cannot record",
    **{(outer, "Lazy"): OUTERMOST for outer in WRAPPERS},
}
PAIRS = list(itertools.product(WRAPPERS, [*PLAIN, *WRAPPERS]))


def made(inner):
    return PLAIN[inner]() if inner in PLAIN else WRAPPERS[inner](G3(4))


@pytest.fixture
def problem():
    torch.set_default_dtype(torch.float32)
    model = SFNN([3, 4, 2])
    return model, torch.rand(6, 3).round(), torch.rand(6, 2).round()


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_pair(problem, outer, inner):
    model, x, y = problem
    if (outer, inner) in REFUSED:
        with pytest.raises(ValueError) as error:
            WRAPPERS[outer](made(inner))
        assert REFUSED[outer, inner] in str(error.value)
        return
    estimator = WRAPPERS[outer](made(inner))
    assert isinstance(estimator, WrappedEstimator) and isinstance(estimator, Estimator)
    assert (estimator.target, estimator.proposals) == (made(inner).target, made(inner).proposals)
    sleeps = inner == "wake-sleep"
    guide = RecognitionNetwork(model, width=0) if sleeps else PriorProposal(model)
    assert isinstance(estimator.loss(model, guide, x, y), float)
    svi = SVI(model, guide, pyro.optim.SGD({"lr": 0.01}), estimator)
    loss = svi.step(x, y)
    assert isinstance(loss, LazyLoss) is (outer == "Lazy") and float(loss) > 0
    trainer = Trainer(model, guide, estimator, Split(x, y), Split(x, y), Schedule(epochs=1))
    assert next(iter(trainer.run())).train_log_likelihood < 0
    pyro.clear_param_store()
    copied = copy.deepcopy(model)
    guide = RecognitionNetwork(copied, width=0) if sleeps else PriorProposal(copied)
    estimator(copied, guide)(x, y).backward()
    assert all(parameter.grad is not None for parameter in copied.parameters())


def test_a_lazy_loss_is_a_number(problem):
    model, x, y = problem
    svi = SVI(model, PriorProposal(model), pyro.optim.SGD({"lr": 0.0}), Lazy(G4(3)))
    loss = svi.step(x, y)
    value = float(loss)
    assert 1.0 + loss == loss + 1.0 == 1.0 + value
    assert loss / 8 == value / 8 and 8 / loss == 8 / value and loss - loss == 0 and loss % 1 < 1
    assert loss * 2 == 2 * loss and -loss < loss <= loss and loss > 0 and loss != 0
    assert round(loss, 2) == round(value, 2) and abs(-loss) == value and loss**2 == value**2
    assert hash(loss) == hash(value) and int(loss) == int(value) and bool(loss)


def test_state_passes_through_wrappers(problem):
    model, x, y = problem
    lazy = Lazy(G1(3))
    lazy.loss_and_grads(model, PriorProposal(model), x, y)
    state = lazy.state_dict()
    assert set(state["averages"]) == {"h1"}
    other = Lazy(G1(3))
    other.load_state_dict(state)
    assert torch.equal(other.estimator.baseline("h1"), lazy.estimator.baseline("h1"))


def test_a_loss_of_pyro_is_refused():
    with pytest.raises(ValueError, match="Lazy wraps an estimator of sfnn_pyro and got a Trace_E"):
        Lazy(Trace_ELBO())


class OnlyPriors(Estimator):
    """A subclass that declares its proposals and nothing else."""

    target = "objective"
    unbiased = False
    proposals = ("prior",)

    def coefficients(self, log_weight):
        return Coefficients(observed=log_weight.exp())


class OnlyBernoulli(OnlyPriors):
    proposals = ("prior", "guide")
    sites = ("Bernoulli",)


def test_an_extension_that_declares_what_it_takes_refuses_the_rest(problem):
    model, x, y = problem
    with pytest.raises(ValueError, match=r"OnlyPriors needs PriorProposal\(model\) .*use VIMCO"):
        OnlyPriors(3).loss(model, RecognitionNetwork(model), x, y)

    def counts(x, y):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", pyro.distributions.Poisson(1.0))
            pyro.sample("y", pyro.distributions.Normal(k, 1.0), obs=y[:, 0])

    with pytest.raises(ValueError, match="site 'k': OnlyBernoulli has no gradient for a Poisson"):
        OnlyBernoulli(3).loss(counts, PriorProposal(counts), x, y)
