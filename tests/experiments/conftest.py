import pytest
import torch


@pytest.fixture(autouse=True)
def float32():
    """Data sets are float32."""
    torch.set_default_dtype(torch.float32)
