"""The names that ``sfnn_pyro`` offers, and what its import loads."""

import subprocess
import sys
from importlib import import_module

import pytest

import sfnn_pyro


@pytest.mark.parametrize("name", sfnn_pyro.__all__)
def test_every_name_is_there(name):
    assert getattr(sfnn_pyro, name)


def test_the_names_are_those_that_are_imported_on_request():
    names = [name for part in sfnn_pyro._PACKAGES.values() for name in part]
    assert sorted([*names, "__version__"]) == sorted(sfnn_pyro.__all__)


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'G9'"):
        _ = sfnn_pyro.G9


def test_the_import_loads_neither_pyro_nor_what_an_extra_brings():
    code = "import sfnn_pyro, sys; print(sorted({'pyro', 'torch', 'ray'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("exact", "evaluation.exact"),
        ("imputation", "evaluation.imputation"),
        ("optim", "training.optimizers"),
        ("predictions", "evaluation.predictions"),
        ("weights", "particles.weights"),
    ],
)
def test_modules_that_the_first_release_documented_have_both_names(old, new):
    before = import_module(f"sfnn_pyro.{old}")
    after = import_module(f"sfnn_pyro.{new}")
    assert before.__all__
    assert all(getattr(before, name) is getattr(after, name) for name in before.__all__)
