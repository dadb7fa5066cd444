import os
from pathlib import Path

import pytest

from sfnn_pyro.data import DataError
from sfnn_pyro.data.cache import find
from sfnn_pyro.data.sources import MNIST, OLIVETTI

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"
# Read before any test unsets the variable.
REAL = Path(os.environ.get("SFNN_DATA") or BESIDE)


def real_folder(source):
    try:
        for file in source.files:
            find(source, file, REAL)
    except DataError:
        pytest.skip(f"no real {source.name} files: set SFNN_DATA to their folder")
    return REAL


@pytest.fixture
def real_mnist():
    return real_folder(MNIST)


@pytest.fixture
def real_olivetti():
    return real_folder(OLIVETTI)


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch, tmp_path):
    """No test sees the user's data: `SFNN_DATA` is unset, the cache an empty folder."""
    folder = tmp_path / "cache"
    monkeypatch.delenv("SFNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "sfnn_pyro"
