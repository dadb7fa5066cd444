import pytest
import torch


@pytest.fixture(autouse=True)
def float32():
    """The command line runs in PyTorch's own default dtype."""
    torch.set_default_dtype(torch.float32)
