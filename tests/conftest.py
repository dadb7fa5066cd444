import pyro
import pytest
import torch


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
