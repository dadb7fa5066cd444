"""Denormal numbers, too small for full precision, rounded to zero during a computation."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Rounds denormal numbers to zero inside the block, and restores the setting afterwards.

    The slopes of saturated units are powers of 1e-10, and products of a few of them are denormal:
    a processor handles them many times slower, and they change no sum. The setting belongs to the
    calling thread and is inherited by the threads that it starts.

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
