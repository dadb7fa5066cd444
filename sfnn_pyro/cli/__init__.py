"""The command line, one file for each command.

Importing this package imports none of them, so that ``main`` can prepare the process first.
"""

from typing import Any

from sfnn_pyro.cli.start import main

__all__ = ["app", "main"]


def __getattr__(name: str) -> Any:
    if name == "app":
        from sfnn_pyro.cli.program import app

        return app
    raise AttributeError(f"module 'sfnn_pyro.cli' has no attribute {name!r}")
