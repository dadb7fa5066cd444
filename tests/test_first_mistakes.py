"""What a beginner types: a message of our own that names the value and the way out."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import SGD

from sfnn_pyro.data import OwnData, Split, load_dataset, load_own
from sfnn_pyro.estimators import G3, G4, VIMCO
from sfnn_pyro.evaluation import impute, log_likelihood
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN, HybridSFNN
from sfnn_pyro.runs import RunConfig, load_run, save, train_run
from sfnn_pyro.training import Schedule, Trainer

X = torch.rand(8, 4, dtype=torch.float64)
Y = torch.tensor([[1.0, 0.0]] * 8, dtype=torch.float64)


def step(x, y, model=None):
    estimator = G4(5) if model else G3(5)
    model = model or SFNN([4, 3, 2])
    SVI(model, PriorProposal(model), SGD({"lr": 0.01}), estimator).step(x, y)


def without_plate(x, y):
    h = pyro.sample("h", dist.Bernoulli(x.sigmoid()).to_event(1))
    pyro.sample("y", dist.Bernoulli(h[..., :2].sigmoid()).to_event(1), obs=y)


def without_events(x, y):
    h = pyro.sample("h", dist.Bernoulli(x.sigmoid()))
    pyro.sample("y", dist.Bernoulli(h[..., :2].sigmoid()), obs=y)


MISTAKES = [
    (lambda: step(X.numpy(), Y.numpy()), "x is a NumPy ndarray: convert it with torch.from_numpy"),
    (lambda: step(X, Y.numpy()), "y is a NumPy ndarray: convert it with torch.from_numpy(y)"),
    (lambda: step(X.tolist(), Y), "x is a list: convert it with torch.as_tensor(x)"),
    (lambda: step(X, Y[:5]), "y has shape (5, 2), expected (8, 2): x has 8 rows, give each"),
    (lambda: step(X[:0], Y[:0]), "x has shape (0, 4), expected (B, 4) with B at least 1"),
    (lambda: G3(5.0), "num_particles=5.0: give a whole number, such as 5"),
    (lambda: G3("5"), "num_particles='5': give a whole number"),
    (lambda: G3(True), "num_particles=True: give a whole number"),
    (lambda: G3(10**30), "must be at most 1000000000"),
    (lambda: G3(10**5000), "num_particles=a number of 500"),
    (lambda: VIMCO(1), "num_particles=1: VIMCO needs at least 2"),
    (lambda: SFNN("432"), "sizes='432': give an input width"),
    (lambda: SFNN(432), "sizes=432: give an input width"),
    (lambda: SFNN([4, 3.0, 2]), "sizes: the width=3.0: give a whole number, such as 3"),
    (lambda: HybridSFNN("432"), "sizes='432': give an input width"),
    (lambda: Schedule(batch_size=float("nan")), "batch_size=nan: give a whole number"),
    (lambda: Schedule(epochs=2.5), "epochs=2.5: give a whole number"),
    (lambda: Schedule(learning_rate="0.1"), "learning_rate='0.1': give a number"),
    (lambda: Schedule(learning_rate=10**400), "(401 digits): must be positive and finite"),
    (lambda: Schedule(momentum=True), "momentum=True: give a number"),
    (lambda: Schedule(seed=1.0), "seed=1.0: give a whole number, such as 1"),
    (lambda: RunConfig(particles=2.0), "particles=2.0: give a whole number, such as 2"),
    (lambda: RunConfig(hidden=5), "hidden=5: give a tuple of widths, such as (200, 200)"),
    (lambda: RunConfig(data=None), "data=None: name a data set, or give a path"),
    (lambda: RunConfig(schedule={"epochs": 3}), "schedule={'epochs': 3}: give Schedule(...)"),
    (lambda: step(X, Y, without_plate), "site 'h' has the batch shape (8,) and stands in no plate"),
    (lambda: step(X, Y, without_events), "'with pyro.plate(\"data\", N):', N the number of data"),
    (lambda: step(X, None), "the model has no observed site"),
    (lambda: step(Y, X), "x has shape (8, 2), expected (B, 4) with B at least 1"),
    (lambda: step(X, Y * 255), "the observed value 255 in row 0 is outside the support of a Bern"),
    (lambda: step(X.float(), Y), "x is torch.float32 on cpu, the model torch.float64 on cpu"),
    (lambda: step(X, Y.long()), "y is torch.int64 on cpu, the model torch.float64 on cpu: convert"),
    (lambda: PriorProposal(SFNN), "model is the class SFNN: make one of it first"),
    (lambda: MixtureProposal(PriorProposal(print), None), "guide is a NoneType: give a function"),
    (lambda: RecognitionNetwork(print), "model is a builtin_function_or_method: give an SFNN"),
    (lambda: RecognitionNetwork(SFNN([4, 3, 2]), 2.5), "width=2.5: give a whole number"),
    (lambda: log_likelihood(X, SFNN([4, 3, 2]), Y), "model is a Tensor: give a function or a"),
    (lambda: log_likelihood(SFNN([4, 3, 2]), X, Y, guide="prior"), "guide is a str: give a func"),
    (lambda: impute(SFNN([4, 3, 2]), X, Y, Y[0] + 0.5), "known holds other values than 0 and 1"),
    (lambda: load_run("/nowhere"), "/nowhere holds no model.safetensors: give the folder"),
    (lambda: step(None, Y), "x is None: give a tensor"),
    (
        lambda: log_likelihood(SFNN([4, 3, 2]), X.tolist(), Y),
        "x is a list: convert it with torch.as_te",
    ),
    (lambda: impute(SFNN([4, 3, 2]), X, Y, [True, False]), "known is a list: convert it with tor"),
    (lambda: SFNN(4, 3, 2), "sizes=4, 3, 2: give the widths as one list, [4, 3, 2]"),
    (lambda: HybridSFNN(4, 3, 2), "sizes=4, 3, 2: give the widths as one list, [4, 3, 2]"),
    (lambda: HybridSFNN([4, 3, 2], stochastic=1.5), "stochastic=1.5: give a whole number"),
    (lambda: SFNN([4, 10**12, 2]), "sizes=[4, 1000000000000, 2]: needs at least"),
    (lambda: G3(torch.tensor(5.0)), "num_particles=tensor(5.): give a whole number"),
    (lambda: G3(SFNN([4, 3, 2])), "num_particles=SFNN( (layers): "),
    (lambda: trainer(estimator=G3), "estimator is the class G3: give an object, such as G3(20)"),
    (lambda: trainer(estimator="g3"), "estimator is 'g3': give an object, such as G3(20)"),
    (lambda: trainer(model=SFNN), "model is the class SFNN: give an object"),
    (lambda: trainer(train_data=(X, Y)), "train_data is a tuple: give Split(x, y)"),
    (lambda: trainer(validation_data=None), "validation_data is None: give Split(x, y)"),
    (lambda: trainer(schedule=5), "schedule is 5: give Schedule(...)"),
    (lambda: trainer(make_optimizer=torch.optim.SGD), "make_optimizer is the class SGD: give a f"),
    (lambda: Split(X.numpy(), Y), "x is a NumPy ndarray: convert it with torch.from_numpy(x)"),
    (lambda: Split(X.float(), None), "y is None: give a tensor"),
    (lambda: load_run(None), "path is None: give a path, as a str or a pathlib.Path"),
    (lambda: load_run(3), "path is 3: give a path"),
    (lambda: load_run(" "), "path=' ' is an empty path: name a file or folder"),
    (lambda: save(SFNN([4, 3, 2]), "m.safetensors"), "run is a SFNN: give SavedRun(model, guide"),
    (lambda: train_run(None, "run"), "config is None: give RunConfig(...)"),
    (lambda: train_run(RunConfig(), ""), "folder='' is an empty path"),
    (lambda: train_run(RunConfig(), "r", checkpoint_minutes="5"), "checkpoint_minutes='5': give"),
    (lambda: load_dataset(["digits"]), "no data set ['digits']: choose one of digits"),
    (lambda: load_own(X), "path is a Tensor: give a path"),
    (lambda: OwnData(x=0), "x is 0: give a text"),
    (lambda: OwnData(shape=28), "shape is 28: give rows and columns, such as (28, 28)"),
]


def trainer(**given):
    model, data = SFNN([4, 3, 2]), Split(X.float(), Y.float())
    known = {
        "model": model,
        "guide": PriorProposal(model),
        "estimator": G3(5),
        "train_data": data,
        "validation_data": data,
        "schedule": Schedule(epochs=1),
    }
    return Trainer(**{**known, **given})


@pytest.mark.parametrize(("call", "part"), MISTAKES)
def test_a_first_mistake_has_a_message_of_our_own(call, part):
    with pytest.raises(ValueError) as caught:
        call()
    # Pyro adds the shapes of its trace below.
    assert part in str(caught.value).partition("\n")[0]


def test_a_class_in_the_place_of_an_estimator():
    model = SFNN([4, 3, 2])
    svi = SVI(model, PriorProposal(model), SGD({"lr": 0.01}), G3)
    with pytest.raises(TypeError, match=r"give an object, G3\(20\), not the class G3"):
        svi.step(X, Y)


def test_numbers_of_numpy_are_numbers():
    schedule = Schedule(np.int64(3), np.float64(0.1), momentum=np.float32(0.5))
    assert schedule.epochs == 3 and G3(np.int64(5)).num_particles == 5
    pyro.clear_param_store()
    step(X, Y)
    config = RunConfig(hidden=[np.int64(3)], particles=np.int64(2), schedule=schedule)
    assert RunConfig.from_json(config.to_json()) == config
