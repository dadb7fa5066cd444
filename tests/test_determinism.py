"""Same seed, same bits, as docs/reliability.md promises; and what it does not promise."""

import pytest
import torch

from sfnn_pyro.data import load_dataset
from sfnn_pyro.estimators import ESTIMATORS
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from tests.commands import TINY, finish, start


@pytest.fixture
def problem():
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    digits = load_dataset("digits")
    model = SFNN([digits.x_size, 20, 20, digits.y_size])
    return model, digits.test.x[:50], digits.test.y[:50]


def step(name, model, x, y):
    torch.manual_seed(3)
    model.zero_grad()
    loss = ESTIMATORS[name](num_particles=6).loss_and_grads(model, PriorProposal(model), x, y)
    return loss, [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - {"rws", "arms"}))
def test_a_step_is_the_same_to_the_bit(problem, name):
    first, again = step(name, *problem), step(name, *problem)
    assert first[0] == again[0]
    assert all(torch.equal(a, b) for a, b in zip(first[1], again[1], strict=True))


def evaluated(problem, **sizes):
    torch.manual_seed(3)
    return log_likelihood(*problem, num_particles=40, **sizes)


def test_an_evaluation_is_the_same_to_the_bit(problem):
    assert torch.equal(evaluated(problem), evaluated(problem))


def test_other_chunks_draw_other_particles_of_the_same_law(problem):
    """Not promised to be the same numbers: equal within their Monte Carlo error.

    The means of 50 estimates differ by less than 6 standard errors of the difference, of which
    both are estimated: a false alarm has a probability below 1e-6, and the seed is fixed.
    """
    whole, chunked = evaluated(problem), evaluated(problem, particle_chunk=7, batch_size=9)
    difference = whole - chunked
    assert not torch.equal(whole, chunked)
    assert difference.mean().abs() < 6 * difference.std() / len(difference) ** 0.5


def test_the_data_are_the_same_in_every_process():
    digits = load_dataset("digits")
    assert int(digits.train.x.sum()) == int(load_dataset("digits").train.x.sum())
    assert not torch.equal(digits.train.x, load_dataset("digits", binarisation_seed=1).train.x)


@pytest.mark.slow
def test_two_processes_evaluate_alike(tmp_path):
    assert finish(start("train", "--out", tmp_path, *TINY)).code == 0
    results = []
    for _ in range(2):
        assert finish(start("evaluate", tmp_path, "--particles=3")).code == 0
        results.append((tmp_path / "evaluation-test-3.json").read_bytes())
    assert results[0] == results[1]
