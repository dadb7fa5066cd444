"""Doctests run with Pyro's state cleared and a fixed seed, like the tests."""

import pyro
import pytest


@pytest.fixture(autouse=True)
def _fixed_seed():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
