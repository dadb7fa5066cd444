import json

import pytest

import sfnn_pyro.data as package
from sfnn_pyro.data import DATASET_NAMES, DataError, load_dataset
from tests.data.helpers import refusal


def test_the_names_are_those_of_the_contract():
    assert set(DATASET_NAMES) == {
        "digits",
        "digits-classification",
        "mnist",
        "mnist-classification",
        "fashion-mnist",
        "fashion-mnist-classification",
        "omniglot",
        "olivetti",
        "tfd",
    }


@pytest.mark.parametrize("name", ["digits", "digits-classification"])
def test_the_embedded_data_need_no_file(name):
    data = load_dataset(name)
    assert data.name == name
    assert json.loads(json.dumps(data.provenance)) == data.provenance


@pytest.mark.parametrize("name", sorted(set(DATASET_NAMES) - {"digits", "digits-classification"}))
def test_the_others_say_what_to_do_and_download_nothing(name, cache_folder, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", None)
    with refusal(name.split("-")[0], str(cache_folder), "SFNN_DATA"):
        load_dataset(name)
    assert not cache_folder.exists()


@pytest.mark.parametrize("name", ["", "MNIST", "cifar"])
def test_an_unknown_name_is_answered_with_the_known_ones(name):
    with refusal(repr(name), *DATASET_NAMES):
        load_dataset(name)


def test_the_error_is_a_value_error():
    assert issubclass(DataError, ValueError)


def test_all_public_names_exist():
    assert all(hasattr(package, name) for name in package.__all__)
