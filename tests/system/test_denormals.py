"""The processor's setting is the caller's again, however the block is left."""

import pytest
import torch

from sfnn_pyro.system.denormals import flushed_denormals

needs_it = pytest.mark.skipif(
    not torch.set_flush_denormal(False), reason="this processor has no such setting"
)


def kept():
    return (2 * torch.tensor([1e-40], dtype=torch.float32)).item() > 0


@needs_it
def test_a_block_flushes_and_puts_back_what_was():
    assert kept()
    with flushed_denormals():
        assert not kept()
        with flushed_denormals():
            assert not kept()
        assert not kept()
    assert kept()


@needs_it
def test_an_error_puts_it_back_too():
    with pytest.raises(KeyError), flushed_denormals():
        raise KeyError
    assert kept()
