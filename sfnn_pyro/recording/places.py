"""Where in a user's own code something happened, for a message."""

import sys
from pathlib import Path
from types import FrameType

LIBRARIES = frozenset({"torch", "pyro", "numpy", "sfnn_pyro", "builtins"}) | sys.stdlib_module_names
"""Packages whose code is not the user's."""


def is_library(module: str | None) -> bool:
    """Whether a module is part of a library and not of the user's program.

    Example:
        >>> is_library("torch.nn"), is_library("my_models")
        (True, False)
    """
    return module is not None and module.partition(".")[0] in LIBRARIES - {"__main__"}


def place() -> str:
    """File and line of the user's code that runs in a step, else of the library's that does."""
    frame: FrameType | None = sys._getframe(1)
    found = None
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        package = module.partition(".")[0]
        if module == "sfnn_pyro.estimators.wrappers.recorded":
            break  # what is further out called the step
        recording = module.startswith("sfnn_pyro.recording")
        if not is_library(module):
            found = frame
            break
        if found is None and package in ("pyro", "sfnn_pyro", "torch") and not recording:
            found = frame if module.startswith(("pyro", "sfnn_pyro", "torch.distr")) else None
        frame = frame.f_back
    if found is None:
        return "the step"
    return f"{Path(found.f_code.co_filename).name}, line {found.f_lineno}"
