"""How many threads may run, and how those of PyTorch wait for each other."""

import math
import os
from pathlib import Path

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


def available_cores() -> int:
    """Number of cores that this process may use, by its affinity and its container's quota.

    Example:
        >>> 1 <= available_cores() <= os.cpu_count()
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores or 1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such control group, or no quota
        return cores or 1
