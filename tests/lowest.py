"""Prints, as constraints of pip, the lowest versions that pyproject.toml declares (make lowest)."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent


def requirements() -> Iterator[str]:
    """Every dependency that pyproject.toml declares, but for this package's own extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for group in (project["dependencies"], *project["optional-dependencies"].values()):
        yield from (one for one in group if not one.startswith("sfnn_pyro["))


def floors() -> dict[str, str]:
    """The lowest declared version of every dependency, by its name.

    PyTorch's is the tested one: its old releases without CUDA are on an index of its own.
    """
    found = {}
    for requirement in requirements():
        name, version = re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirement).groups()
        found[name] = version
    tested = (ROOT / "constraints.txt").read_text()
    return found | {"torch": re.search(r"^torch==(.+)$", tested, re.MULTILINE)[1]}


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in sorted(floors().items())))
