"""Numbers too small for full precision taken as zero, while a computation runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Takes denormal numbers as zero inside the block; afterwards all is as it was.

    The slopes of saturated units are powers of 1e-10, and products of a few of them are denormal:
    a processor handles them many times slower, and nothing that is added up notices them. It is a
    setting of the calling thread, inherited by threads that it starts.

    Example:
        >>> tiny = torch.tensor([1e-40], dtype=torch.float32)
        >>> with flushed_denormals():
        ...     print((2 * tiny).item() == 0 or not torch.set_flush_denormal(True))
        True
        >>> (2 * tiny).item() > 0
        True
    """
    before = (2 * torch.tensor([1e-40], dtype=torch.float32)).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
