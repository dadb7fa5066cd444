"""How much memory this process may have, and the refusal of what cannot fit."""

import os
import resource
from pathlib import Path

CGROUPS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where Linux says what a container may have."""


def available_memory() -> int:
    """Bytes that this process may have at most: of the machine, its container and its limits.

    Example:
        >>> available_memory() > 2**20
        True
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            limits.append(soft)
    for path in CGROUPS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            limits.append(int(text))
    return min(limits)


def check_memory(needed: int, what: str, advice: str, error: type[ValueError] = ValueError) -> None:
    """Refuses what needs more bytes than there are, before they are asked for.

    Asking is no test: Linux promises memory that it has not, and ends the process that uses it.

    Arguments:
        needed: bytes that are needed at least.
        what: what needs them.
        advice: what to do instead.
        error: type of the error.

    Example:
        >>> check_memory(10**18, "hidden=[10000000000]", "give smaller widths")
        Traceback (most recent call last):
            ...
        ValueError: hidden=[10000000000]: needs at least 931,322,575 GiB of memory, and ...
    """
    available = available_memory()
    if needed > available:
        raise error(
            f"{what}: needs at least {needed / 2**30:,.0f} GiB of memory, and this process may "
            f"have {available / 2**30:,.0f}: {advice}"
        )
