"""The setting of the C library's allocator that keeps freed memory for the next step."""

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def keep_pages(limit: int = 2**30) -> bool:
    """Sets the C library to keep freed memory, up to a limit, for the next step.

    Every step frees and allocates the same megabytes; by default glibc returns them to the
    kernel, which clears every page again. This setting of the whole process is made by programs
    (the command line makes it), never by an import.

    Arguments:
        limit: free bytes at the top of the heap above which memory is given back.

    Returns:
        Whether the C library took the setting: True with glibc, False elsewhere.

    Example:
        >>> keep_pages() in (True, False)
        True
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    # glibc accepts no larger threshold for blocks of their own than 32 MiB.
    settings = ((M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, limit), (M_TOP_PAD, 2**26))
    return all(mallopt(name, value) for name, value in settings)
