import pytest

from tests.hosts.faults import FAULTS
from tests.hosts.network import Network, why_not


def pytest_collection_modifyitems(items):
    for item in items:
        if "hosts" in item.path.parts[:-1]:
            item.add_marker(pytest.mark.hosts)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def permission():
    """Skips where no hosts can be made."""
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture
def network(permission, tmp_path):
    """A switch whose hosts are taken down whatever happens; no process of theirs is left."""
    with Network(tmp_path) as made:
        yield made
    assert not made.left


def pytest_terminal_summary(terminalreporter):
    if FAULTS.rows:
        terminalreporter.section("what was cut or killed")
        for line in FAULTS.table():
            terminalreporter.write_line(line)
