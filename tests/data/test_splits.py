import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfnn_pyro.data import DataError, Dataset, Split
from sfnn_pyro.data.splits import assemble, partition, seeded
from tests.data.helpers import refusal, untimed


def matrix(*shape):
    return torch.zeros(*shape, dtype=torch.float32)


def dataset(y, likelihood):
    part = Split(matrix(len(y), 6), y)
    return assemble("made-up", [part] * 3, likelihood, ((2, 3), None), {"seed": 1})


def test_sizes_of_real_targets():
    data = dataset(matrix(5, 4), "gaussian")
    assert (data.x_size, data.y_size, len(data.train)) == (6, 4, 5)
    assert data.provenance == {"seed": 1, "train_size": 5, "validation_size": 5, "test_size": 5}


def test_the_size_of_labels_is_the_number_of_classes():
    assert dataset(torch.tensor([0, 2, 1]), "categorical").y_size == 3


def test_a_class_that_only_the_test_set_has_is_counted():
    first, last = (Split(matrix(1, 2), torch.tensor([label])) for label in (1, 7))
    data = Dataset("made-up", first, first, last, "categorical", None, None, {})
    assert data.y_size == 8


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        (matrix(3, 2), matrix(4, 2), "x has 3 rows and y 4"),
        (matrix(3), matrix(3, 2), "x is torch.float32 of shape (3,)"),
        (matrix(3, 2), matrix(3), "y is torch.float32 of shape (3,)"),
        (matrix(3, 2).double(), matrix(3, 2), "x is torch.float64"),
        (matrix(3, 2), matrix(3, 2).long(), "y is torch.int64 of shape (3, 2)"),
        (matrix(3, 2) / 0, matrix(3, 2), "x holds NaN or infinity"),
        (matrix(3, 2), matrix(3, 2) + torch.inf, "y holds NaN or infinity"),
    ],
)
def test_rows_that_make_no_split_are_refused(x, y, reason):
    with refusal(reason):
        Split(x, y)


def test_an_unknown_likelihood_is_refused():
    with refusal("likelihood='poisson'", "bernoulli"):
        dataset(matrix(2, 2), "poisson")


def test_both_are_frozen():
    data = dataset(matrix(2, 2), "gaussian")
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "another"
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.train.x = matrix(2, 2)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "1", None, True, float("nan")])
def test_what_is_no_seed_is_named(seed):
    with refusal(f"split_seed={seed!r}"):
        seeded("split_seed", seed)


@untimed
@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(0, 5), st.integers(0, 99))
def test_parts_are_disjoint_and_of_the_sizes_wanted(sizes, spare, seed):
    parts = partition(sum(sizes) + spare, sizes, seeded("split_seed", seed))
    assert [len(part) for part in parts] == sizes
    together = torch.cat(parts).tolist()
    assert len(set(together)) == len(together)
    assert set(together) <= set(range(sum(sizes) + spare))
    assert all(part.tolist() == sorted(part.tolist()) for part in parts)


def test_more_than_there_is_cannot_be_shared_out():
    with pytest.raises(DataError, match="4 rows cannot be split"):
        partition(4, (3, 2), seeded("split_seed", 0))
