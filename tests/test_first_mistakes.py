"""What a beginner types: a message of our own that names the value and the way out."""

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import SGD

from sfnn_pyro.estimators import G3, VIMCO
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN, HybridSFNN
from sfnn_pyro.runs import RunConfig
from sfnn_pyro.training import Schedule

X = torch.rand(8, 4, dtype=torch.float64)
Y = torch.rand(8, 2, dtype=torch.float64).round()


def step(x, y):
    model = SFNN([4, 3, 2])
    SVI(model, PriorProposal(model), SGD({"lr": 0.01}), G3(5)).step(x, y)


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
]


@pytest.mark.parametrize(("call", "part"), MISTAKES)
def test_a_first_mistake_has_a_message_of_our_own(call, part):
    with pytest.raises(ValueError) as caught:
        call()
    # Pyro adds the shapes of its trace below.
    assert part in str(caught.value).partition("\n")[0]


def test_numbers_of_numpy_are_numbers():
    schedule = Schedule(np.int64(3), np.float64(0.1), momentum=np.float32(0.5))
    assert schedule.epochs == 3 and G3(np.int64(5)).num_particles == 5
    pyro.clear_param_store()
    step(X, Y)
