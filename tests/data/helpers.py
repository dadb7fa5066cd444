"""What several tests of the data layer ask."""

import tracemalloc
from contextlib import contextmanager

import pytest
from hypothesis import settings

from sfnn_pyro.data import DataError

# The first example pays for imports and caches; no test here is about time.
untimed = settings(deadline=None)


@contextmanager
def refusal(*parts):
    """A `DataError` of one line that contains each of `parts`."""
    with pytest.raises(DataError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def outcome(read, *arguments, **keywords):
    """The result of `read`, or None if it refuses politely; anything else is a failure."""
    try:
        return read(*arguments, **keywords)
    except DataError as error:
        assert str(error) and "\n" not in str(error)
        return None


@contextmanager
def memory_below(limit):
    """Fails if the block has more than `limit` bytes allocated at once."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak} bytes at once"
