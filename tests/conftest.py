import signal

import pyro
import pytest
import torch

RANKS = {"ranks", "found", "launch"}
"""Fixtures of tests/distributed that start several processes, each of which loads PyTorch."""


def pytest_collection_modifyitems(items):
    for item in items:
        if "distributed" in item.path.parts and RANKS & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def restored_interrupts():
    """The command line, run within the tests' process, ignores Ctrl-C once it has been stopped."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def fresh_pyro():
    """float64, a cleared parameter store and a fixed seed before every test."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    pyro.set_rng_seed(20150507)
    yield
    torch.set_default_dtype(before)
    pyro.clear_param_store()
