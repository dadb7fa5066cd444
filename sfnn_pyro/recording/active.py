"""Whether the step that runs is being recorded."""

from collections.abc import Iterator
from contextlib import contextmanager

_active = False


def is_recording() -> bool:
    """Whether what runs now is being traced to be replayed.

    Code that looks at a number, or draws from anything but PyTorch's generator, asks this and
    takes a form that a graph can hold: the look is then a tensor of type bool.

    Example:
        >>> is_recording()
        False
        >>> with recorded_now():
        ...     is_recording()
        True
    """
    return _active


@contextmanager
def recorded_now() -> Iterator[None]:
    """Says so for as long as the context is open."""
    global _active
    before, _active = _active, True
    try:
        yield
    finally:
        _active = before
