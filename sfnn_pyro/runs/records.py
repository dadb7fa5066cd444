"""What is recorded beside a result: its standard error, the versions and the machine."""

import math
import platform
from pathlib import Path

import pyro
import torch
from torch import Tensor


def standard_error(values: Tensor) -> float:
    """Standard error of the mean of some values; NaN for fewer than two.

    Example:
        >>> standard_error(torch.tensor([1.0, 3.0]))
        1.0
    """
    return (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else math.nan


def machine() -> dict[str, str | int]:
    """Versions and machine, for the record beside a result."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pyro": pyro.__version__,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
