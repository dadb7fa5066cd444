"""The command line, one file for each command.

Importing this package imports none of them, so that ``main`` can prepare the process first.
"""

from __future__ import annotations

from sfnn_pyro.cli.start import main

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["app", "main"]


def __getattr__(name: str) -> Any:
    if name == "app":
        from sfnn_pyro.cli.program import app

        return app
    raise AttributeError(f"module 'sfnn_pyro.cli' has no attribute {name!r}")
