import pytest

from tests.distributed.world import on_ranks


@pytest.fixture
def ranks(tmp_path):
    """Runs a function on two ranks, and returns what each returned."""
    return lambda function, *arguments: on_ranks(function, *arguments, store=tmp_path / "store")
