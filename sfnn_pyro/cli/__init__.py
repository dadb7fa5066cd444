"""The command line, one file for each command."""

from sfnn_pyro.cli.program import app, main

__all__ = ["app", "main"]
