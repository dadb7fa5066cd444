"""Reading of regular files alone: a pipe would keep the reader waiting, a device never ends."""

import os
import stat
from pathlib import Path

from sfnn_pyro.system.atomic_files import kind_of


class SealError(ValueError):
    """A file that is not what this package wrote; the message names it and what is wrong."""


def read_regular(path: Path, limit: int | None = None) -> bytes:
    """The contents of a regular file, or of one that a link points to.

    Arguments:
        path: the file.
        limit: largest number of bytes accepted.

    Raises:
        OSError: it cannot be read, is no regular file, or is too large; ``strerror`` says which.

    Example:
        >>> read_regular(Path("/dev/zero"))
        Traceback (most recent call last):
            ...
        OSError: [Errno 22] it is a device, no file: '/dev/zero'
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(22, f"it is {kind_of(status.st_mode)}, no file", str(path))
        if limit is not None and status.st_size > limit:
            raise OSError(27, f"it holds more than {limit:,} bytes", str(path))
        return file.read()


def read_whole(path: Path) -> memoryview:
    """The contents of a file of this package, before anything in it is believed.

    Raises:
        SealError: it cannot be read; the message says why.
    """
    try:
        return memoryview(read_regular(path))
    except OSError as error:
        raise SealError(f"{path} cannot be read ({error.strerror or error})") from error
