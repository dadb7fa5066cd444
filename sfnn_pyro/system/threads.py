"""How the threads of PyTorch wait for each other."""

import os

VARIABLES = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
"""Of GNU's and of LLVM's OpenMP, which PyTorch is built with."""


def wait_passively() -> None:
    """Lets threads that wait for others sleep, instead of keeping a core busy.

    By default a thread that has done its part of an operation spins until the others have done
    theirs. Where other processes keep the cores busy, it thereby takes the time of those it waits
    for, and a training may take fifteen times as long. The setting is an environment variable that
    OpenMP reads when PyTorch is imported: call this before. What is set already is kept, and
    processes that are started later inherit it.

    Example:
        >>> wait_passively()
        >>> "OMP_WAIT_POLICY" in os.environ
        True
    """
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
